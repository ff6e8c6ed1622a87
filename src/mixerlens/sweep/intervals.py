"""How sure a mean accuracy over seeds is, and how sure the difference of two models on the same seeds.

Two things move an accuracy: the seed (weights, examples, their order) and the number of answers asked. Student's t
interval over the seeds covers both where there are several seeds, but two seeds that happen to agree would seem
certain; Wilson's interval of the pooled answers covers the second alone. Where every seed draws test examples of its
own, the interval is the smallest that holds both: never narrower than either. With one seed it is the second alone and
says nothing of other seeds.

A finite test set is the same for all seeds, and its examples lie crossed with them: the accuracy of seed s on example e
is p + a_s + b_e + c_se, and over S seeds and N examples the mean has the variance

    var a / S + var b / N + var c / (S N)

The variance between the seeds' accuracies over S holds the first and the last term, and nothing of b: all seeds were
asked the same. So an easy set makes every seed look good, and more seeds do not help. Of b nothing but right and asked
is known; var b is at most the variance of one answer, and so the answers of all seeds count as those of N examples.
The sides of the two intervals, Student's and Wilson's of so many answers, are taken together as those of independent
parts are: the root of the sum of squares (Howe 1974, J. Amer. Statist. Assoc. 69, 789; Newcombe's of a difference is
the same rule). That covers other seeds and other examples of the kind of these; too much where seeds err on different
examples, by the term in c counted S times. Where a seed is asked a random part of the N, which part it was is a
difference between seeds. Assumed is that seeds and examples are each drawn independently, and of two models that none
finds hard what the other finds easy (b of the two is not negatively correlated).

The answers of one sequence stand or fall together. N answers of accuracy p, of which sequence s was asked a_s and gave
r_s rightly, are worth as many independent ones as have the variance of a ratio estimated from clusters:

    worth = N / max(1, sum_s (r_s - p a_s)^2 / (N p (1 - p)))

and where all are right, or none, as many as there are sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..reproduce.intervals import quantile, wilson

__all__ = ["Answers", "Counts", "of_difference", "of_mean", "p_of_difference", "student"]


class Answers(NamedTuple):
    """A test's: how many were right and asked, of how many sequences, and squares = sum (r_s - p a_s)^2 over them."""

    right: int
    asked: int
    sequences: int
    squares: float

    @classmethod
    def of(cls, each: Sequence[tuple[int, int]]) -> Answers:
        """From right and asked of every sequence; one that was asked nothing does not count."""
        r, a = np.array([pair for pair in each if pair[1]], dtype=np.int64).reshape(-1, 2).T
        right, asked = int(r.sum()), int(a.sum())
        # N^2 times the sum is a whole number
        squares = asked**2 * int((r * r).sum()) - 2 * right * asked * int((r * a).sum()) + right**2 * int((a * a).sum())
        return cls(right, asked, len(r), squares / max(1, asked) ** 2)


Counts = Sequence[Answers]  # a seed each


def student(values: Sequence[float], level: float = 0.05) -> tuple[float, float] | None:
    """The interval of a mean, 95 % unless told otherwise; None of one value. Raises UnsupportedError without scipy."""
    if len(values) < 2:
        return None
    middle = float(np.mean(values))
    half = quantile(len(values) - 1, level) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return middle - half, middle + half


def of_mean(counts: Counts, shared: int | None = None) -> tuple[float, float, float]:
    """Mean accuracy over seeds, low and high. shared: sequences of the test set that all seeds are asked from; None
    where each seed has its own."""
    shares = [each.right / each.asked for each in counts]
    low, high = _together(shares, *_pooled(counts, shared), shared)
    return float(np.mean(shares)), max(0.0, low), min(1.0, high)


def of_difference(
    ours: Counts, theirs: Counts, shared: int | None = None, level: float = 0.05
) -> tuple[float, float, float]:
    """Mean difference over the same seeds, ours less theirs, low and high. shared: as of `of_mean`.

    Student's interval of the differences seed by seed, and Newcombe's interval of two proportions on the pooled
    answers (its method 10, which takes the sides of two Wilson intervals). Of confidence 1 - level.
    """
    pairs = list(zip(ours, theirs, strict=True))
    differences = [a.right / a.asked - b.right / b.asked for a, b in pairs]
    (p, low_p, high_p), (q, low_q, high_q) = (_pooled(counts, shared, level) for counts in (ours, theirs))
    newcombe = p - q - math.hypot(p - low_p, high_q - q), p - q + math.hypot(high_p - p, q - low_q)
    low, high = _together(differences, p - q, *newcombe, shared, level)
    return float(np.mean(differences)), max(-1.0, low), min(1.0, high)


def p_of_difference(ours: Counts, theirs: Counts, shared: int | None = None) -> float:
    """Of no difference, two-sided: the level at which the interval of `of_difference` just reaches 0; under 0.05 where
    the 95 % one does not hold it. Halved to one part in a thousand; what is below 1e-12 counts as that."""

    def holds(exponent: float) -> bool:
        _, low, high = of_difference(ours, theirs, shared, 10.0**exponent)
        return low <= 0 <= high

    small, large = -12.0, 0.0
    if holds(large) or not holds(small):
        return 10.0 ** (large if holds(large) else small)
    while large - small > 4e-4:
        middle = (small + large) / 2
        small, large = (middle, large) if holds(middle) else (small, middle)
    return 10.0**large


def _pooled(counts: Counts, shared: int | None, level: float = 0.05) -> tuple[float, float, float]:
    right, asked, sequences, squares = (sum(each) for each in zip(*counts, strict=True))
    p = right / asked
    alone = sum(each.right * (each.asked - each.right) / each.asked for each in counts)  # N p (1 - p), a seed each
    worth = asked / max(1.0, squares / alone) if alone else sequences
    if shared is not None:
        worth *= min(1.0, shared / sequences)  # no more of them than there are
    return p, *wilson(p * worth, worth, NormalDist().inv_cdf(1 - level / 2))


def _together(
    values: Sequence[float], pooled: float, low: float, high: float, shared: int | None, level: float = 0.05
) -> tuple[float, float]:
    """The interval of the seeds' values, and that of the answers around ``pooled``, as one."""
    seeds = student(values, level)
    if seeds is None:
        return low, high
    if shared is None:
        return min(seeds[0], low), max(seeds[1], high)
    middle, half = float(np.mean(values)), (seeds[1] - seeds[0]) / 2
    return middle - math.hypot(half, pooled - low), middle + math.hypot(half, high - pooled)
