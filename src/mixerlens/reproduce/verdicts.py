"""On which sets the claim holds: one rule for all of them, applied to stored scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .intervals import Difference, difference, holm, unpack

__all__ = ["INTERACTING", "Verdict", "verdicts"]

INTERACTING = ("gelu only", "full", "two layers")
LINEAR_READINGS = LINEAR, RAW, LAST = "identity", "raw sequence", "identity, last step"
# what else a reader asks, and what it asks
ASKED = {
    ("full", LINEAR): "interactions at all, in one block",
    ("gelu only", LINEAR): "a GELU alone",
    ("glu only", LINEAR): "a GLU alone",
    ("full", "glu only"): "a GELU beside a GLU",
    ("full", "gelu only"): "a GLU beside a GELU",
    ("two layers", "full"): "a second block",
    ("full", "frozen"): "trained kernels instead of random ones",
    ("norm", "full"): "a LayerNorm beside both",
    ("norm only", LINEAR): "a LayerNorm alone",
    ("last step", "full"): "the last step instead of the mean over time",
    ("identity, last step", LINEAR): "the same without interactions",
}


@dataclass(frozen=True)
class Verdict:
    """data: the set. chosen: the interacting model with the most validation sequences right. kind: "holds", "partly",
    "not shown" or "reversed". differences: by what was compared, None where one of the two was not run. adjusted: their
    p-values by Holm's rule over all sets that the same was asked of. seeds: the fewest that a trained side of it has;
    with one, its interval covers another test set but no other seed."""

    data: str
    chosen: str
    kind: str
    differences: dict[str, Difference | None]
    adjusted: dict[str, float | None]
    seeds: dict[str, int]

    def says(self, key: str) -> str | None:
        """ "higher", "lower" or "no difference" at 5 % over all sets; None where it was not run."""
        found = self.differences.get(key)
        return None if found is None else found.verdict(self.adjusted[key])


def verdicts(rows: dict[str, Any]) -> list[Verdict]:
    """Of every set with the identity decoder, the raw sequence and an interacting model, rows as in the document.

    holds: the chosen model is above both, and above the identity decoder read at the last step where that was run, at
    5 % over all sets (`holm`, each question by itself). partly: above the identity decoder alone. reversed: the
    identity decoder is above the chosen model. not shown: anything else.
    """
    compared: dict[str, tuple[str, dict[str, Difference | None]]] = {}
    for data, variants in rows.items():
        candidates = [name for name in INTERACTING if variants.get(name)]
        if candidates and variants.get(LINEAR) and variants.get(RAW):
            chosen = max(candidates, key=lambda name: _validated(variants[name]))  # of equals the simplest
            compared[data] = chosen, {said: _compare(variants, *pair) for said, pair in _asked(chosen).items()}
    adjusted: dict[str, dict[str, float | None]] = {data: {} for data in compared}
    for said in _asked(""):
        there = {data: each.p for data, (_, found) in compared.items() if (each := found[said]) is not None}
        family = dict(zip(there, holm(list(there.values())), strict=True))
        for data in compared:
            adjusted[data][said] = family.get(data)
    found = []
    for data, (chosen, differences) in compared.items():
        variants = rows[data]
        seeds = {
            said: min(len(variants.get(name, ())) for name in pair if name != RAW)
            for said, pair in _asked(chosen).items()
        }
        each = Verdict(data, chosen, "", differences, adjusted[data], seeds)
        found.append(replace(each, kind=_kind(each)))
    return found


def _asked(chosen: str) -> dict[str, tuple[str, str]]:
    """What is compared with what, the same questions whatever was chosen."""
    best = {f"best - {name}": (chosen, name) for name in LINEAR_READINGS}
    return best | {f"{ours} - {theirs}": (ours, theirs) for ours, theirs in ASKED}


def _kind(found: Verdict) -> str:
    beside, raw, last = (found.says(f"best - {name}") for name in LINEAR_READINGS)
    if beside == "higher":
        return "holds" if {raw, last or raw} == {"higher"} else "partly"
    return "reversed" if beside == "lower" else "not shown"


def _validated(runs: dict[str, Any]) -> float:
    return float(np.mean([run["best"]["validation_correct"] for run in runs.values()]))


def _compare(variants: dict[str, Any], ours: str, theirs: str) -> Difference | None:
    if not variants.get(ours) or not variants.get(theirs):
        return None
    rights = []
    for name in (ours, theirs):
        tests = [run["test"] for run in variants[name].values()]
        rights.append([unpack(test["right"], test["score"][1]) for test in tests])
    return difference(*rights)
