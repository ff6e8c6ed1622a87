"""How sure an accuracy is: of one model on a test set, of several seeds, and of the difference of two variants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

__all__ = ["Difference", "difference", "holm", "pack", "unpack", "wilson"]

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
    def p(self) -> float:
        """Two-sided p-value of no difference by the same normal approximation: under 0.05 where zero is outside."""
        if self.high == self.low:
            return float(self.mean == 0)
        return math.erfc(abs(self.mean) / (self.high - self.low) * 2 * Z / math.sqrt(2))

    def verdict(self, p: float | None = None) -> str:
        """ "higher", "lower", or "no difference" at 5 %; p: adjusted for other questions, its own unless given."""
        if not (self.p if p is None else p) < 0.05:
            return "no difference"
        return "higher" if self.mean > 0 else "lower"


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's step-down rule: taking those under a level keeps the chance of a single false one
    among them below that level, whatever depends on what."""
    order = sorted(range(len(p)), key=lambda k: p[k])
    found, highest = [0.0] * len(p), 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[k]))
        found[k] = highest
    return found


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
