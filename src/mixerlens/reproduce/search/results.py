"""What a document of the search says: scores of a rung, their order, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .families import FAMILIES
from .statistic import Comparison, best, compared, score
from .tables import FINAL, TASKS, accuracy

__all__ = ["Rows", "judged", "ranked", "scores"]

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]  # task, mixer, seed


def scores(rows: Rows) -> dict[str, dict[str, float]]:
    """By mixer and seed, of those that have every task; seeds in their order."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for variants in rows.values() for name in variants):
        runs = {data: rows.get(data, {}).get(name, {}) for data in TASKS}
        for seed in sorted(set.intersection(*map(set, runs.values())), key=int):
            tasks = {data: accuracy(run[seed]) for data, run in runs.items()}
            found.setdefault(name, {})[seed] = score(tasks)
    return found


def ranked(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Mixers, the best first."""
    return best({name: list(each.values()) for name, each in found.items()}, len(found))


def judged(document: Mapping[str, Any]) -> tuple[str, list[Comparison]] | None:
    """The candidate of the last rung and its comparisons; None unless every run of that rung is there."""
    tables = document["tables"]
    if FINAL not in tables or any(name.startswith(f"{FINAL}/") for name in document["missing"]):
        return None
    found = {name: list(each.values()) for name, each in scores(tables[FINAL]).items()}
    (candidate,) = (name for name in found if name not in FAMILIES)
    return candidate, compared(found[candidate], {name: each for name, each in found.items() if name in FAMILIES})
