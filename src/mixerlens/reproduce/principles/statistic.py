"""Does a measured spectrum predict task accuracy? What is asked, how, and when the answer is yes: fixed before any run.

Unit: one trained model of the table "spectrum" on the delay line, of four kinds of A_t, three starts and six seeds.

x   the median |eigenvalue| of its A_t, over layers, heads, tokens after the first and state dimensions, each
    eigenvalue as often as it is repeated, on four validation sequences, with the weights of its best look in training
y   its accuracy on the delay line's test sequences, with the same weights

The statistic is Spearman's rank correlation of x and y over all models. The rank of |eigenvalue| is the rank of its
half-life ln(1/2) / ln|eigenvalue|, so that this is the correlation with memory in tokens as well. Its interval: 95 %,
percentiles of 10,000 bootstrap samples of models. Its p-value: two-sided, 10,000 random permutations of y, the observed
one counted among them.

    "predicts"          p < 0.05 and the interval is above 0: slower spectra, better delay lines
    "the other way"     p < 0.05 and the interval is below 0
    "not shown"         anything else
    "too few models"    fewer than 60 were trained to the end

Looked at besides, and decided by nothing: the share of |eigenvalue| > 0.99 in place of the median, permutations within
a kind of A_t alone (a correlation that only tells kinds apart is no prediction within one), and both for recall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["FEWEST", "Correlation", "correlation", "ranks", "spearman"]

FEWEST, DRAWS, LEVEL, SEED = 60, 10_000, 0.05, 0


@dataclass(frozen=True)
class Correlation:
    """rho, its 95 % interval, the p-values of free permutations and of those within a group, and how many models."""

    rho: float
    low: float
    high: float
    p: float
    p_within: float
    models: int

    @property
    def verdict(self) -> str:
        if self.models < FEWEST:
            return "too few models"
        if self.p < LEVEL and self.low > 0:
            return "predicts"
        return "the other way" if self.p < LEVEL and self.high < 0 else "not shown"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def ranks(x: Float[np.ndarray, "*rows models"]) -> Float[np.ndarray, "*rows models"]:
    """Ranks along the last axis from 1 on; equal numbers share the mean of theirs."""
    below = (x[..., None, :] < x[..., :, None]).sum(-1)
    equal = (x[..., None, :] == x[..., :, None]).sum(-1)
    return below + (equal + 1) / 2


def spearman(x: Float[np.ndarray, "*rows models"], y: Float[np.ndarray, "*rows models"]) -> Float[np.ndarray, " *rows"]:
    """The correlation of the ranks; 0 where one of the two is constant."""
    return _pearson(ranks(x), ranks(y))


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (each - each.mean(-1, keepdims=True) for each in (a, b))
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.divide((a * b).sum(-1), size, out=np.zeros(np.shape(size)), where=size > 0)


def correlation(x: Sequence[float], y: Sequence[float], groups: Sequence[str]) -> Correlation:
    """As the module says. groups: the kind of A_t of every model."""
    a, b, kinds = np.asarray(x, float), np.asarray(y, float), np.asarray(groups)
    count = len(a)
    if count < 3:
        return Correlation(0.0, -1.0, 1.0, 1.0, 1.0, count)
    generator = np.random.default_rng(SEED)
    rank_a, rank_b = ranks(a), ranks(b)
    rho = float(_pearson(rank_a, rank_b))
    free, within, again = [], [], []
    for _ in range(DRAWS // 100):
        chosen = generator.integers(0, count, (100, count))
        again.append(spearman(a[chosen], b[chosen]))
        keys = generator.random((100, count))
        free.append(_pearson(rank_a, rank_b[keys.argsort(1)]))
        inner = np.empty((100, count))
        for kind in np.unique(kinds):
            mine = np.flatnonzero(kinds == kind)
            inner[:, mine] = rank_b[mine[keys[:, mine].argsort(1)]]
        within.append(_pearson(rank_a, inner))
    low, high = np.quantile(np.concatenate(again), (0.025, 0.975))
    p, p_within = (
        float((1 + (np.abs(np.concatenate(each)) >= abs(rho) - 1e-12).sum()) / (1 + DRAWS)) for each in (free, within)
    )
    return Correlation(rho, float(low), float(high), p, p_within, count)
