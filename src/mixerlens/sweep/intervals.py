"""How sure a mean accuracy over seeds is, and how sure the difference of two models on the same seeds.

Two things move an accuracy: the seed (weights, examples, their order) and the number of answers asked. Student's t
interval over the seeds covers both where there are several seeds, but two seeds that happen to agree would seem
certain; Wilson's interval of the pooled answers covers the second alone. The interval here is the smallest that holds
both: never narrower than either. With one seed it is the second alone and says nothing of other seeds.

The answers of one sequence stand or fall together. N answers of accuracy p, of which sequence s was asked a_s and gave
r_s rightly, are worth as many independent ones as have the variance of a ratio estimated from clusters:

    worth = N / max(1, sum_s (r_s - p a_s)^2 / (N p (1 - p)))

and where all are right, or none, as many as there are sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..reproduce.intervals import quantile, wilson

__all__ = ["Answers", "Counts", "of_difference", "of_mean", "student"]


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


def student(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of a mean; None of one value. Raises UnsupportedError without scipy."""
    if len(values) < 2:
        return None
    middle = float(np.mean(values))
    half = quantile(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return middle - half, middle + half


def of_mean(counts: Counts) -> tuple[float, float, float]:
    """Mean accuracy over seeds, low and high."""
    shares = [each.right / each.asked for each in counts]
    low, high = _both(student(shares), _pooled(counts)[1:])
    return float(np.mean(shares)), max(0.0, low), min(1.0, high)


def of_difference(ours: Counts, theirs: Counts) -> tuple[float, float, float]:
    """Mean difference over the same seeds, ours less theirs, low and high.

    Student's interval of the differences seed by seed, and Newcombe's interval of two proportions on the pooled
    answers (its method 10, which takes the sides of two Wilson intervals).
    """
    pairs = list(zip(ours, theirs, strict=True))
    differences = [a.right / a.asked - b.right / b.asked for a, b in pairs]
    (p, low_p, high_p), (q, low_q, high_q) = (_pooled(counts) for counts in (ours, theirs))
    newcombe = p - q - math.hypot(p - low_p, high_q - q), p - q + math.hypot(high_p - p, q - low_q)
    low, high = _both(student(differences), newcombe)
    return float(np.mean(differences)), max(-1.0, low), min(1.0, high)


def _pooled(counts: Counts) -> tuple[float, float, float]:
    right, asked, sequences, squares = (sum(each) for each in zip(*counts, strict=True))
    p = right / asked
    alone = sum(each.right * (each.asked - each.right) / each.asked for each in counts)  # N p (1 - p), a seed each
    worth = asked / max(1.0, squares / alone) if alone else sequences
    return p, *wilson(p * worth, worth)


def _both(first: tuple[float, float] | None, second: tuple[float, float]) -> tuple[float, float]:
    return second if first is None else (min(first[0], second[0]), max(first[1], second[1]))
