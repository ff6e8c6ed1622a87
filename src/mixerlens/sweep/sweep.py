"""A sweep: runs that are computed once, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import WriteError
from .config import COLUMNS, RunConfig
from .engines import Failure, Run, start
from .models import Models, Trained, train_whole
from .store import Store, need_pyarrow
from .training import train

__all__ = ["Finished", "Sweep"]


@dataclass(frozen=True)
class Finished:
    """rows: of the runs that are there, in the order asked for. computed: how many of them this time. failures: a line
    for every run that ended with an error; nothing of it is stored. refused: a line for every stored file that did not
    count."""

    rows: list[dict[str, Any]]
    computed: int
    failures: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Sweep:
    """Runs, and the folder that keeps each of them from the moment it is finished. run: what computes one, `train`
    unless given. keep: a folder for the trained models, one a run (`models.Models`); ``run`` then gives `Trained`.

    Raises InputError where one run stands there twice, or none.
    """

    def __init__(
        self,
        runs: Sequence[RunConfig],
        folder: str | os.PathLike[str],
        *,
        run: Run | None = None,
        keep: str | os.PathLike[str] | None = None,
    ) -> None:
        self.runs, self.store = list(runs), Store(folder)
        self.models = None if keep is None else Models(keep)
        self.compute: Run = run or (train if keep is None else train_whole)
        if not self.runs:
            raise InputError("there is no run in this sweep")
        seen: set[str] = set()
        for config in self.runs:
            if config.id in seen:
                raise InputError(f"the run {config.label} is asked for twice")
            seen.add(config.id)

    @property
    def folder(self) -> Path:
        return self.store.folder

    def stored(self) -> Finished:
        """What is there, without computing anything."""
        rows, refused = self.store.rows(self.runs)
        return Finished(self._ordered(rows), 0, [], refused)

    def unkept(self) -> dict[str, str]:
        """Why the model of a stored run does not count as kept, by the run's id. Such a run is trained again, and its
        row written again with its model."""
        if self.models is None:
            return {}
        rows, _ = self.store.rows(self.runs)
        why = {one.id: self.models.lacks(one, rows[one.id]) for one in self.runs if one.id in rows}
        return {number: reason for number, reason in why.items() if reason is not None}

    def run(
        self,
        engine: str = "local",
        workers: int | None = None,
        address: str | None = None,
        progress: Callable[[str, int, int], None] = lambda label, done, total: None,
    ) -> Finished:
        """Every run once: those that are stored, and whose models are kept if they are to be, as they are, the others
        computed and stored as they come in.

        engine: "local", here or in ``workers`` processes, or "ray", on the cluster at ``address``. progress: called
        with the label of a run that begins or was finished, the runs done and their number. A run that ends with an
        error is named in the result and the others go on; an interruption, or a disk that is full, ends the sweep and
        leaves what was finished.

        Raises:
            InputError: a folder cannot be written, or another sweep is at work there.
            WriteError: a finished run could not be stored; says how many are.
            UnsupportedError: pyarrow or ray is missing.
        """
        need_pyarrow()  # before hours of work whose table could not be written
        total = len(self.runs)
        with self.store.lock():
            if self.models is not None:
                self.models.prepare()
            rows, refused = self.store.rows(self.runs)
            again = {number: rows.pop(number) for number in self.unkept()}
            todo = [config for config in self.runs if config.id not in rows]
            failures: list[str] = []
            computed = 0
            progress("", len(rows), total)
            try:
                outcomes = start(
                    engine, self.compute, todo, workers, address, lambda c: progress(c.label, len(rows), total)
                )
                with closing(outcomes):  # type: ignore[type-var] - the engines are generators
                    for config, outcome in outcomes:
                        if config.id in rows:
                            continue
                        if isinstance(outcome, Failure):
                            failures.append(f"{config.label}: {outcome.reason}")
                            continue
                        row = config.columns() | outcome.columns()
                        row = {name: row[name] for name in COLUMNS}
                        if self.models is not None and isinstance(outcome, Trained):
                            self.models.put(config, outcome, row)
                        self.store.put(config, row)
                        rows[config.id] = row
                        computed += 1
                        progress(config.label, len(rows), total)
                ordered = self._ordered(again | rows)
                self.store.finish(ordered)
            except WriteError as error:
                raise WriteError(f"{error}; {self.standing()}") from error
        return Finished(ordered, computed, failures, refused)

    def standing(self) -> str:
        """How many runs are stored and how the sweep goes on, for a message."""
        done = len(self.stored().rows)
        return f"{done} of {len(self.runs)} runs are stored in {self.folder}, and the same command goes on there"

    def _ordered(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        return [rows[config.id] for config in self.runs if config.id in rows]
