"""What a sweep's rows say: for every model and task the grid point that validation chose, its test accuracy, and what
two models differ by on the same seeds. One object; the table, the JSON and the figure show it and compute nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..measures.record import Record
from .intervals import Answers, of_difference, of_mean

__all__ = ["GRID", "Cell", "Difference", "Summary", "summarize"]

GRID = ("lr", "wd", "batch", "steps", "warmup", "clip")  # what a grid may vary
SHARED = ("features", "depth", "mlp_ratio", "positions", "looks", "held", "tested", *GRID)
Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One model on one task, at the grid point that validation chose.

    point: what the grid varied. seeds, accuracies: of the test, in this order. mean, low, high: over seeds, 95 %.
    validation: mean accuracy that the point was chosen by. points: of the grid that had all seeds the best had.
    diverged: runs of the point that diverged. shared: examples of the test set that all seeds are asked from, None
    where each has its own. state_bytes: a sequence's, None where it grows; grows_bytes: what every token then adds.
    cpu_seconds: of all runs of the model on the task.
    """

    spec: str
    task: str
    point: dict[str, float]
    seeds: list[int]
    accuracies: list[float]
    mean: float
    low: float
    high: float
    validation: float
    points: int
    diverged: int
    chance: float
    parameters: int
    shared: int | None
    state_bytes: int | None
    grows_bytes: int | None
    cpu_seconds: float

    @property
    def above_chance(self) -> bool:
        return self.low > self.chance


@dataclass(frozen=True)
class Difference:
    """Accuracy of ``spec`` less that of ``other`` on the seeds both have, each at its chosen point; 95 %."""

    spec: str
    other: str
    task: str
    seeds: list[int]
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """ "higher", "lower", "undecided" where the interval holds zero, or "one seed", which says nothing of others:
        two trainings of one model differ too."""
        if len(self.seeds) < 2:
            return "one seed"
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "undecided"


@dataclass(frozen=True, eq=False)
class Summary(Record):
    """specs, tasks: in the order of the rows. grid: the values that were tried. recipe: what all runs share."""

    specs: list[str]
    tasks: list[str]
    seeds: list[int]
    grid: dict[str, list[float]]
    recipe: dict[str, Any]
    runs: int
    missing: list[str]
    cells: list[Cell]
    differences: list[Difference]
    versions: list[dict[str, str]]

    labels: ClassVar[dict[str, str]] = {
        "cells": "one model on one task at the grid point that validation chose: test accuracy, its mean over seeds, "
        "and the 95 % interval, the smallest that holds Student's over seeds and Wilson's of the pooled answers, "
        "as many as they are worth when those of one sequence stand or fall together; where all seeds are asked from "
        "one test set (shared), its examples count once, and the sides of the two are added as squares",
        "differences": "accuracy of spec less that of other on the same seeds, with the 95 % interval, the smallest "
        "that holds Student's over the seeds' differences and Newcombe's of the pooled answers, as many as they are "
        "worth, or the two as of cells where the test set is shared; for one pair, not corrected for how many pairs "
        "there are; no verdict with one seed",
        "missing": "runs that were asked for and are not stored",
        "recipe": "what all runs share",
    }
    units: ClassVar[dict[str, str]] = {
        "cells": "shares of right answers; state_bytes: bytes a sequence; grows_bytes: bytes a token; seconds"
    }

    def cell(self, spec: str, task: str) -> Cell | None:
        """None where no run of the two is stored."""
        return next((cell for cell in self.cells if (cell.spec, cell.task) == (spec, task)), None)

    def difference(self, spec: str, other: str, task: str) -> Difference | None:
        """In the order of the summary; None where the two share no seed."""
        found = (each for each in self.differences if (each.spec, each.other, each.task) == (spec, other, task))
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("specs", "tasks", "seeds", "grid", "recipe", "runs")}
        cells = [asdict(cell) | {"above_chance": cell.above_chance} for cell in self.cells]
        differences = [asdict(each) | {"verdict": each.verdict} for each in self.differences]
        more = {"missing": self.missing, "versions": self.versions}
        return self._described(numbers | more | {"cells": cells, "differences": differences})


def summarize(rows: Sequence[Row], missing: Iterable[str] = ()) -> Summary:
    """From the rows of a sweep. missing: labels of runs that are not there.

    For every model and task the point with the highest mean validation accuracy is chosen among those with the most
    seeds, of several the one with the lowest mean validation loss. A run that diverged counts with its best look.

    Raises InputError for no rows, or for a model and task that were run with more than one recipe beside the grid.
    """
    if not rows:
        raise InputError("no run of this sweep is stored")
    specs, tasks = (list(dict.fromkeys(row[name] for row in rows)) for name in ("spec", "task"))
    grid = {name: sorted({row[name] for row in rows}) for name in GRID}
    grid = {name: values for name, values in grid.items() if len(values) > 1}
    chosen: dict[tuple[str, str], list[Row]] = {}
    cells = []
    for spec in specs:
        for task in tasks:
            own = [row for row in rows if (row["spec"], row["task"]) == (spec, task)]
            if own:
                best, points = _best(own)
                chosen[spec, task] = best
                cells.append(_cell(own, best, points, tuple(grid)))
    differences = [
        _difference(chosen[other, task], chosen[spec, task])
        for task in tasks
        for spec, other in combinations(specs, 2)
        if (spec, task) in chosen and (other, task) in chosen
    ]
    versions: list[dict[str, str]] = []
    for row in rows:
        if (found := json.loads(row["versions"])) not in versions:
            versions.append(found)
    first = rows[0]
    return Summary(
        specs=specs,
        tasks=tasks,
        seeds=sorted({row["seed"] for row in rows}),
        grid=grid,
        recipe={name: first[name] for name in SHARED if all(row[name] == first[name] for row in rows)},
        runs=len(rows),
        missing=list(missing),
        cells=cells,
        differences=[each for each in differences if each is not None],
        versions=versions,
    )


def _best(rows: list[Row]) -> tuple[list[Row], int]:
    """The rows of the chosen point, by seed, and how many points there were to choose from."""
    points: dict[tuple[float, ...], list[Row]] = {}
    for row in rows:
        points.setdefault(tuple(row[name] for name in GRID), []).append(row)
    for found in points.values():
        if len({row["seed"] for row in found}) < len(found):
            row = found[0]
            raise InputError(f"{row['spec']} on {row['task']}: runs of several recipes, which no grid tells apart")
    most = max(len(found) for found in points.values())
    complete = [found for found in points.values() if len(found) == most]

    def order(found: list[Row]) -> tuple[float, float]:
        losses = [np.inf if row["validation_loss"] is None else row["validation_loss"] for row in found]
        return float(np.mean([row["validation_accuracy"] for row in found])), -float(np.mean(losses))

    return sorted(max(complete, key=order), key=lambda row: row["seed"]), len(complete)


def _cell(rows: list[Row], best: list[Row], points: int, varied: tuple[str, ...]) -> Cell:
    first = best[0]
    shared = _shared(first)
    mean, low, high = of_mean(_counts(best), shared)
    return Cell(
        spec=first["spec"],
        task=first["task"],
        point={name: first[name] for name in varied},
        seeds=[row["seed"] for row in best],
        accuracies=[row["test_accuracy"] for row in best],
        mean=mean,
        low=low,
        high=high,
        validation=float(np.mean([row["validation_accuracy"] for row in best])),
        points=points,
        diverged=sum(row["status"] == "diverged" for row in best),
        chance=first["chance"],
        parameters=first["parameters"],
        shared=shared,
        state_bytes=first["state_bytes"],
        grows_bytes=_grows(first) if first["state_bytes"] is None else None,
        cpu_seconds=round(sum(row["cpu_seconds"] for row in rows), 1),
    )


def _difference(ours: list[Row], theirs: list[Row]) -> Difference | None:
    left, right = ({row["seed"]: row for row in rows} for rows in (ours, theirs))
    seeds = sorted(left.keys() & right.keys())
    if not seeds:
        return None
    one, other = (_counts([each[seed] for seed in seeds]) for each in (left, right))
    mean, low, high = of_difference(one, other, _shared(ours[0]))
    return Difference(ours[0]["spec"], theirs[0]["spec"], ours[0]["task"], seeds, mean, low, high)


def _counts(rows: list[Row]) -> list[Answers]:
    return [Answers(*(row[f"test_{name}"] for name in ("correct", "total", "sequences", "squares"))) for row in rows]


def _shared(row: Row) -> int | None:
    """How many test examples there are; a finite test set is the same for every seed."""
    from ..tasks import make

    return make(row["task"], **json.loads(row["options"])).examples("test")


def _grows(row: Row) -> int:
    """Bytes that every token adds to what the layers keep."""
    from ..design.cost import grows_bytes
    from ..design.spec import MixerSpec

    return grows_bytes([MixerSpec.from_dict(layer) for layer in json.loads(row["layers"])], row["features"])
