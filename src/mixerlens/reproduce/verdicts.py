"""On which sets the claim holds: one rule for all of them, applied to stored scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .intervals import Difference, difference, unpack

__all__ = ["INTERACTING", "Verdict", "verdicts"]

INTERACTING = ("gelu only", "full", "two layers")
LINEAR, RAW, LAST = "identity", "raw sequence", "identity, last step"
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
    "not shown" or "reversed". differences: by what was compared, None where one of the two was not run. seeds: the
    fewest that a trained side of it has; with one, its interval covers another test set but no other seed."""

    data: str
    chosen: str
    kind: str
    differences: dict[str, Difference | None]
    seeds: dict[str, int]


def verdicts(rows: dict[str, Any]) -> list[Verdict]:
    """Of every set with the identity decoder, the raw sequence and an interacting model, rows as in the document.

    holds: the chosen model is above both, and above the identity decoder read at the last step where that was run, at
    95 %. partly: above the identity decoder alone. reversed: the identity
    decoder is above the chosen model. not shown: anything else.
    """
    found = []
    for data, variants in rows.items():
        candidates = [name for name in INTERACTING if variants.get(name)]
        if not candidates or not variants.get(LINEAR) or not variants.get(RAW):
            continue
        chosen = max(candidates, key=lambda name: _validated(variants[name]))  # of equals the simplest
        beside = _compare(variants, chosen, LINEAR)
        raw = _compare(variants, chosen, RAW)
        assert beside is not None and raw is not None
        if beside.verdict == "higher":
            last = _compare(variants, chosen, LAST)
            kind = "holds" if {raw.verdict, (last or raw).verdict} == {"higher"} else "partly"
        else:
            kind = "reversed" if beside.verdict == "lower" else "not shown"
        asked = {
            "best - identity": (chosen, LINEAR),
            "best - raw sequence": (chosen, RAW),
            f"best - {LAST}": (chosen, LAST),
        }
        asked |= {f"{ours} - {theirs}": (ours, theirs) for ours, theirs in ASKED}
        differences = {said: _compare(variants, *pair) for said, pair in asked.items()}
        seeds = {said: min(len(variants.get(name, ())) for name in pair if name != RAW) for said, pair in asked.items()}
        found.append(Verdict(data, chosen, kind, differences, seeds))
    return found


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
