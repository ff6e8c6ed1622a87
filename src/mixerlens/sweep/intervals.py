"""How sure a mean accuracy over seeds is, and how sure the difference of two models on the same seeds.

Two things move an accuracy: the seed (weights, examples, their order) and the number of answers asked. Student's t
interval over the seeds covers both where there are several seeds, but two seeds that happen to agree would seem
certain; Wilson's interval of the pooled answers covers the second alone. The interval here is the smallest that holds
both: never narrower than either. With one seed it is the second alone and says nothing of other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import UnsupportedError
from ..reproduce.intervals import wilson

__all__ = ["Counts", "of_difference", "of_mean", "student"]

Counts = Sequence[tuple[int, int]]  # right and asked, a seed each
LEVEL = 0.95


def student(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of a mean; None of one value. Raises UnsupportedError without scipy."""
    if len(values) < 2:
        return None
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise UnsupportedError("intervals over seeds need scipy: pip install 'mixerlens[design]'") from error
    middle = float(np.mean(values))
    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    half = quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return middle - half, middle + half


def of_mean(counts: Counts) -> tuple[float, float, float]:
    """Mean accuracy over seeds, low and high."""
    shares = [right / asked for right, asked in counts]
    pooled = wilson(sum(right for right, _ in counts), sum(asked for _, asked in counts))
    low, high = _both(student(shares), pooled)
    return float(np.mean(shares)), max(0.0, low), min(1.0, high)


def of_difference(ours: Counts, theirs: Counts) -> tuple[float, float, float]:
    """Mean difference over the same seeds, ours less theirs, low and high.

    Student's interval of the differences seed by seed, and Newcombe's interval of two proportions on the pooled
    answers (its method 10, which takes the sides of two Wilson intervals).
    """
    pairs = list(zip(ours, theirs, strict=True))
    differences = [a / n - b / m for (a, n), (b, m) in pairs]
    (p, low_p, high_p), (q, low_q, high_q) = (_pooled(counts) for counts in (ours, theirs))
    newcombe = p - q - math.hypot(p - low_p, high_q - q), p - q + math.hypot(high_p - p, q - low_q)
    low, high = _both(student(differences), newcombe)
    return float(np.mean(differences)), max(-1.0, low), min(1.0, high)


def _pooled(counts: Counts) -> tuple[float, float, float]:
    right, asked = (sum(each) for each in zip(*counts, strict=True))
    return right / asked, *wilson(right, asked)


def _both(first: tuple[float, float] | None, second: tuple[float, float]) -> tuple[float, float]:
    return second if first is None else (min(first[0], second[0]), max(first[1], second[1]))
