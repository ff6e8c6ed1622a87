"""How sure an accuracy is: of one model on a test set, of several seeds, and of the difference of two variants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

__all__ = ["Difference", "difference", "pack", "unpack", "wilson"]

Z = 1.959963984540054  # two-sided 95 %


def wilson(correct: int, total: int, z: float = Z) -> tuple[float, float]:
    """Wilson's interval of a proportion, 95 % unless told otherwise."""
    p, n = correct / total, total
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def pack(right: Bool[np.ndarray, " examples"]) -> str:
    """Which test examples were right, as hexadecimal digits, the first example the highest bit."""
    return np.packbits(right).tobytes().hex()


def unpack(packed: str, total: int) -> Bool[np.ndarray, " examples"]:
    """The inverse of `pack`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(packed), np.uint8), count=total).astype(bool)


@dataclass(frozen=True)
class Difference:
    """Accuracy of one variant less that of another on the same test examples; low, high: 95 %."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """ "higher", "lower", or "no difference" where the interval holds zero."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "no difference"


def difference(
    ours: Sequence[Bool[np.ndarray, " examples"]], theirs: Sequence[Bool[np.ndarray, " examples"]]
) -> Difference:
    """From what every seed of both got right, a row of the same examples a seed.

    The variance is that of the mean over test examples, each averaged over seeds, and that of the mean over seeds of
    either variant, added: it covers another test set and another seed, and counts a part twice, to the safe side.
    """
    a, b = np.array(ours, dtype=float), np.array(theirs, dtype=float)
    each = a.mean(0) - b.mean(0)
    variance = each.var(ddof=1) / len(each) if len(each) > 1 else 0.0
    for rows in (a, b):
        if len(rows) > 1:
            variance += rows.mean(1).var(ddof=1) / len(rows)
    mean, half = float(each.mean()), Z * math.sqrt(variance)
    return Difference(mean, mean - half, mean + half)
