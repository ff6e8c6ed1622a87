"""The three rungs of the search and their cells; which mixers a later rung has, follows from the one before.

quick: what about half an hour of one CPU core can do. full: more candidates, longer trainings, the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...design import MixerSpec
from ...errors import InputError
from ..principles.tables import ENDLESS, cell_of, config_of
from ..principles.tables import SCALES as PRINCIPLES
from ..store import Cell
from .families import families
from .sizes import WIDTH
from .space import draw
from .statistic import best, score

__all__ = ["DRAW", "FINAL", "FIRST", "SCALES", "SECOND", "SETTLED", "TABLES", "Scale", "accuracy", "follow", "scores"]

FIRST, SECOND, FINAL = "first", "second", "final"
SETTLED = 0  # the seed of the trials that chose the tasks' sizes, the rate and the steps: in no cell
DRAW = 6  # of the generator of candidates
TABLES: dict[str, tuple[str, tuple[int, ...]]] = {
    FIRST: ("Every family and every candidate, trained shortly", (1,)),
    SECOND: ("The best of either, trained fully", (2, 3)),
    FINAL: ("The best candidate and the best families, on fresh seeds", (11, 12, 13, 14, 15)),
}
Get = Callable[[Cell], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Scale:
    """candidates: drawn. kept: of them, and of the families, that the second rung has. finalists: families of the last
    rung. short, steps: of a training in the first rung, and in the others."""

    candidates: int
    kept: int
    finalists: int
    short: int
    steps: int


SCALES: dict[str, Scale] = {
    "quick": Scale(candidates=20, kept=4, finalists=3, short=75, steps=150),
    "full": Scale(candidates=96, kept=16, finalists=6, short=500, steps=2000),
}
# three tasks of the study of the principles, two of them at three quarters of its lengths
TASKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "mqar": ("mqar", {"vocabulary": 32, "length": 24, "pairs": 6, "fill": "zero"} | ENDLESS),
    "selective copying": ("selective_copying", {"length": 24, "copied": 6} | ENDLESS),
    "parity": ("parity", {"length": 16, "test_length": 32}),
}
LOOKS: dict[str, dict[str, int]] = {  # at validation examples, and test examples
    FIRST: {"looks": 4, "held": 128, "tested": 512},
    SECOND: {"looks": 8, "held": 256, "tested": 1024},
    FINAL: {"looks": 8, "held": 256, "tested": 1024},
}
SHARED = replace(PRINCIPLES["quick"], features=WIDTH, lr=1e-2, tasks=TASKS)


def follow(table: str) -> Callable[[str, Sequence[int], Get], list[Cell]]:
    """The cells of a rung, as `study.Table` asks for them.

    Raises InputError for seeds that are not the rung's own: fresh seeds are fresh because no choice has seen them.
    """

    def cells(scale: str, seeds: Sequence[int], get: Get) -> list[Cell]:
        if tuple(seeds) != TABLES[table][1]:
            own = ", ".join(map(str, TABLES[table][1]))
            raise InputError(f"the seeds of {table} are {own}: which ones choose and which ones judge is fixed")
        return _cells(table, scale, get)

    return cells


def _cells(table: str, scale: str, get: Get) -> list[Cell]:
    entrants = _entrants(table, scale, get)
    return [
        _cell(table, scale, data, name, spec, seed)
        for seed in TABLES[table][1]
        for name, spec in entrants
        for data in TASKS
    ]


def _cell(table: str, scale: str, data: str, name: str, spec: MixerSpec | None, seed: int) -> Cell:
    if spec is None:
        return Cell(table, data, name, seed, {}, None)
    sizes = SCALES[scale]
    shared = replace(SHARED, steps={table: sizes.short if table == FIRST else sizes.steps})
    config = config_of(shared, table, data, spec, seed, **LOOKS[table])
    return cell_of(table, data, config)


def _entrants(table: str, scale: str, get: Get) -> list[tuple[str, MixerSpec | None]]:
    """A rung's mixers, families first; without a specification where the rung before is not finished."""
    drawn, sizes = draw(SCALES[scale].candidates, DRAW).specs, SCALES[scale]
    every = families() | drawn
    if table == FIRST:
        return list(every.items())
    before, counts = (FIRST, (sizes.kept, sizes.kept)) if table == SECOND else (SECOND, (sizes.finalists, 1))
    found = scores(_cells(before, scale, get), get)
    chosen: list[tuple[str, MixerSpec | None]] = []
    for kind, group, count in (("family", families(), counts[0]), ("candidate", drawn, counts[1])):
        if found is None:
            chosen += [(f"{kind} {place} of rung {before}", None) for place in range(1, count + 1)]
        else:
            names = best({name: each for name, each in found.items() if name in group}, count)
            chosen += [(name, every[name]) for name in names]
    return chosen


def scores(cells: Sequence[Cell], get: Get) -> dict[str, list[float]] | None:
    """Of every mixer, a seed each in their order; None unless every cell is stored."""
    runs: dict[str, dict[int, dict[str, tuple[float, float]]]] = {}
    for cell in cells:
        stored = get(cell)
        if stored is None:
            return None
        runs.setdefault(cell.variant, {}).setdefault(cell.seed, {})[cell.data] = accuracy(stored["result"])
    return {name: [score(tasks) for _, tasks in sorted(seeds.items())] for name, seeds in runs.items()}


def accuracy(result: Mapping[str, Any]) -> tuple[float, float]:
    """Of a run's test examples, and of guessing; from a cell as it is stored or as a document has it."""
    outcome = result["outcome"]
    correct, total = outcome.get("score") or (outcome["correct"], outcome["total"])
    return correct / total, result["chance"]
