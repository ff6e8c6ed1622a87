"""Spearman's rank correlation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["rank_correlation"]


def rank_correlation(one: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> float:
    """Pearson's correlation of the ranks, ties by their mean rank; NaN for fewer than two values or all alike."""
    if len(one) < 2:
        return float("nan")
    a, b = (ranks - ranks.mean() for ranks in (_ranks(one), _ranks(other)))
    return float((a @ b) / (a.norm() * b.norm()))


def _ranks(values: Tensor) -> Tensor:
    _, place, count = values.unique(return_inverse=True, return_counts=True)  # sorted
    last = count.cumsum(0).double()
    return (last - (count - 1) / 2)[place]
