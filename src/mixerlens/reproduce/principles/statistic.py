"""Does a measured spectrum predict task accuracy? What is asked, how, and when the answer is yes: fixed before the runs
that count, seeds 1 to 6.

Unit: one trained model of the table "spectrum" on the delay line, of four kinds of A_t and three starts, which make
twelve variants, of six seeds each.

x   the median |eigenvalue| of its A_t, over layers, heads, tokens after the first and state dimensions, each
    eigenvalue as often as it is repeated, on four validation sequences, with the weights of its best look in training
y   its accuracy on the delay line's test sequences, with the same weights

The statistic is Spearman's rank correlation of x and y over all models. The rank of |eigenvalue| is the rank of its
half-life ln(1/2) / ln|eigenvalue|, so that this is the correlation with memory in tokens as well. Models of one variant
share its start, so they are no independent evidence: with accuracies half of whose variance is the variant's, taking
the 72 for exchangeable finds a relation where none is in one case of three. So whole variants are drawn. The interval:
95 %, percentiles of 10,000 bootstrap samples of variants, and of seeds within each. The p-value: two-sided, 10,000
random permutations of the variants' blocks of y, the observed one counted among them.

    "predicts"          p < 0.05 and the interval is above 0: slower spectra, better delay lines
    "the other way"     p < 0.05 and the interval is below 0
    "not shown"         anything else
    "too few models"    fewer than 60 were trained to the end

x is set by the start as well as by training, so that this answer is about spectra however they came to be. Looked at
besides, and decided by nothing: permutations of y among the seeds of one variant, which alone speak of what training
did to a spectrum; the share of |eigenvalue| > 0.99 in place of the median; and both for recall.
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
    """rho, its 95 % interval, the p-values of permutations of whole variants and of seeds within them, and how many
    models."""

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


def correlation(x: Sequence[float], y: Sequence[float], variants: Sequence[str]) -> Correlation:
    """As the module says. variants: of every model. Where some lack a seed, only blocks of equal size change places,
    and a bootstrap sample has as many seeds of every variant as there are on average."""
    a, b = np.asarray(x, float), np.asarray(y, float)
    count = len(a)
    if count < 3:
        return Correlation(0.0, -1.0, 1.0, 1.0, 1.0, count)
    generator = np.random.default_rng(SEED)
    rank_a, rank_b = ranks(a), ranks(b)
    rho = float(_pearson(rank_a, rank_b))
    _, which = np.unique(np.asarray(variants), return_inverse=True)
    blocks = [np.flatnonzero(which == k) for k in range(which.max() + 1)]
    sizes = np.array([len(block) for block in blocks])
    alike = [np.stack([block for block in blocks if len(block) == size]) for size in np.unique(sizes)]
    most = np.array([np.resize(block, sizes.max()) for block in blocks])
    whole, within, again = [], [], []
    for _ in range(DRAWS // 100):
        drawn = generator.integers(0, len(blocks), (100, len(blocks), 1))
        seeds = generator.integers(0, sizes[drawn], (100, len(blocks), max(1, round(count / len(blocks)))))
        chosen = most[drawn, seeds].reshape(100, -1)
        again.append(spearman(a[chosen], b[chosen]))
        moved, inner = np.empty((2, 100, count))
        for same in alike:
            moved[:, same] = rank_b[same[generator.random((100, len(same))).argsort(1)]]
        keys = generator.random((100, count))
        for block in blocks:
            inner[:, block] = rank_b[block[keys[:, block].argsort(1)]]
        whole.append(_pearson(rank_a, moved))
        within.append(_pearson(rank_a, inner))
    low, high = np.quantile(np.concatenate(again), (0.025, 0.975))
    p, p_within = (
        float((1 + (np.abs(np.concatenate(each)) >= abs(rho) - 1e-12).sum()) / (1 + DRAWS // 100 * 100))
        for each in (whole, within)
    )
    return Correlation(rho, float(low), float(high), p, p_within, count)
