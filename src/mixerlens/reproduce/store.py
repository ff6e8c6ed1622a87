"""Cells of a study, and the folder that keeps each of them as one JSON file, written whole as soon as it is finished.

A cell is (table, data set, variant, seed) with the settings that decide its result. A file counts only if it carries
the same settings, so that a changed recipe never mixes with older numbers; an interrupted run leaves whole cells.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import write_whole
from ..measures.record import plain

__all__ = ["Cell", "Store", "versions"]

SCHEMA = 1
PACKAGES = ("torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Cell:
    """One number's worth of work: where it stands, what decides it, and the function that does it.

    settings: everything beside the four names that the result depends on, JSON-able. compute: gives the result as a
    JSON-able dictionary; None while other cells, which are not stored yet, still have to say what this one is.
    """

    table: str
    data: str
    variant: str
    seed: int
    settings: dict[str, Any]
    compute: Callable[[], dict[str, Any]] | None

    @property
    def name(self) -> str:
        return f"{self.table}/{self.data}/{self.variant}-{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        found = {"schema": SCHEMA, "table": self.table, "data": self.data, "variant": self.variant, "seed": self.seed}
        return found | {"settings": json.loads(json.dumps(self.settings))}


class Store:
    """The cells below a folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"

    def get(self, cell: Cell) -> dict[str, Any] | None:
        """The stored cell, None where it is missing, was made with other settings, or is no whole file of ours."""
        if cell.compute is None:
            return None
        try:
            found = json.loads(self.path(cell).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.items() >= cell.key.items() and "result" in found else None

    def run(
        self,
        cells: Iterable[Cell],
        progress: Callable[[Cell, int, int], None] = lambda cell, done, total: None,
    ) -> list[dict[str, Any]]:
        """All cells in order, those that are stored as they are, the others computed and stored one by one. Cells of
        which nobody can say yet what they are, are left out.

        progress: called with a cell before it is computed, the cells done and their number. Raises InputError for two
        cells of one name or a folder that cannot be written, before anything is computed.
        """
        cells = list(cells)
        names = [cell.name for cell in cells]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"the cell {twice} is asked for twice")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write below {self.folder}: {error.strerror or error}") from error
        found = []
        for done, cell in enumerate(cells):
            stored = self.get(cell)
            if stored is None and cell.compute is None:
                continue
            if stored is None:
                assert cell.compute is not None
                progress(cell, done, len(cells))
                clock, cpu = time.monotonic(), time.process_time()
                result = plain(cell.compute())
                spent = {
                    "seconds": round(time.monotonic() - clock, 2),
                    "cpu_seconds": round(time.process_time() - cpu, 2),
                }
                stored = json.loads(json.dumps(cell.key | {"result": result, "versions": versions()} | spent))
                path = self.path(cell)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps(stored, allow_nan=False) + "\n")
            found.append(stored)
        return found

    def stored(self, cells: Iterable[Cell]) -> list[dict[str, Any]]:
        """Those of the cells that are there."""
        return [found for found in map(self.get, cells) if found is not None]


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of what the numbers depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
