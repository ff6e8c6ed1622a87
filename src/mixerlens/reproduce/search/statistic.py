"""The score, the choice by it, and the comparison that decides: all fixed before the runs that count.

    score of a run of a mixer    mean over tasks of (a - c) / (1 - c), a the test accuracy, c that of guessing
    difference to a family       d_s = score of the candidate less score of the family, a seed s each, over fresh seeds
    beats a family               the mean of d is above 0 with p < 0.05: two-sided, Student's t of d with n - 1 degrees
                                 of freedom, adjusted by Holm's rule over the families compared
    the search succeeded         the candidate beats every family compared

Runs of one seed see the same examples, so differences are taken seed by seed; a seed has its own weights, training and
test examples, so that Student's t over seeds covers all three kinds of luck. The candidate and the families were chosen
by other seeds: the best of many by its own scores would look better than it is, on fresh seeds it does not. Families
are chosen in the same way, the best of them by the same seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...sweep.intervals import student
from ..intervals import Difference, holm

__all__ = ["Comparison", "best", "compared", "score", "succeeded"]

Accuracy = tuple[float, float]  # a and c


def score(tasks: Mapping[str, Accuracy]) -> float:
    """0: guessing, 1: all right; below 0 where a model is worse than guessing."""
    return float(np.mean([(a - c) / (1 - c) for a, c in tasks.values()]))


def best(scores: Mapping[str, Sequence[float]], count: int) -> list[str]:
    """The highest means over seeds; of equals the one that comes first."""
    return sorted(scores, key=lambda name: -float(np.mean(scores[name])))[:count]


@dataclass(frozen=True)
class Comparison:
    """The candidate less one family. p: adjusted over all families compared."""

    family: str
    difference: Difference
    p: float

    @property
    def verdict(self) -> str:
        said = {"higher": "beaten", "lower": "better than the candidate", "no difference": "undecided"}
        return said[self.difference.verdict(self.p)]


def compared(candidate: Sequence[float], families: Mapping[str, Sequence[float]]) -> list[Comparison]:
    """From the scores of each on the same seeds, in the same order; at least two seeds."""
    differences = {name: _paired(candidate, scores) for name, scores in families.items()}
    adjusted = holm([each.p for each in differences.values()])
    return [Comparison(name, each, p) for (name, each), p in zip(differences.items(), adjusted, strict=True)]


def succeeded(found: Sequence[Comparison]) -> bool:
    return bool(found) and all(each.verdict == "beaten" for each in found)


def _paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    values = [a - b for a, b in zip(ours, theirs, strict=True)]
    interval = student(values)
    if interval is None:
        raise ValueError("one seed says nothing of others")
    return Difference(float(np.mean(values)), *interval, len(values) - 1)
