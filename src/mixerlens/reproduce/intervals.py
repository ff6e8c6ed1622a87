"""How sure an accuracy is: of one model on a test set, of several seeds, and of the difference of two variants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from ..errors import UnsupportedError

__all__ = ["Difference", "difference", "holm", "pack", "quantile", "unpack", "wilson"]

Z = 1.959963984540054  # two-sided 95 %


def wilson(correct: float, total: float, z: float = Z) -> tuple[float, float]:
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


def quantile(freedom: float, level: float = 0.05) -> float:
    """Student's: a variance of so many degrees of freedom makes an interval of confidence 1 - level, 95 % unless told
    otherwise, of plus or minus this many standard errors. Raises UnsupportedError without scipy."""
    return float(_special().stdtrit(freedom, 1 - level / 2))


def _special() -> Any:
    try:
        from scipy import special
    except ImportError as error:
        raise UnsupportedError("intervals over seeds need scipy: pip install 'mixerlens[design]'") from error
    return special


@dataclass(frozen=True)
class Difference:
    """Accuracy of one variant less that of another on the same test examples; low, high: 95 %. freedom: the degrees of
    freedom of its variance, of which a few seeds leave a few."""

    mean: float
    low: float
    high: float
    freedom: float = math.inf

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference by the same Student's t: under 0.05 where zero is outside."""
        if self.high == self.low:
            return float(self.mean == 0)
        errors = 2 * abs(self.mean) / (self.high - self.low) * quantile(self.freedom)
        return float(2 * _special().stdtr(self.freedom, -errors))

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
    either variant, added: it covers another test set and another seed, and counts a part twice, to the safe side. A
    variance made of a few seeds may be much too small, so the quantile is Student's t with Welch's and Satterthwaite's
    degrees of freedom, (sum v)^2 / sum(v^2 / f) of the parts v with f degrees each: down to 2 with three seeds.
    """
    a, b = np.array(ours, dtype=float), np.array(theirs, dtype=float)
    each = a.mean(0) - b.mean(0)
    samples = [sample for sample in (each, a.mean(1), b.mean(1)) if len(sample) > 1]
    parts = [(float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in samples]
    mean, variance = float(each.mean()), sum(v for v, _ in parts)
    if variance == 0:
        return Difference(mean, mean, mean)
    freedom = variance**2 / sum(v * v / f for v, f in parts)
    half = quantile(freedom) * math.sqrt(variance)
    return Difference(mean, mean - half, mean + half, freedom)
