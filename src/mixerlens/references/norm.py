"""Norm attention of the dynamical systems framework (Sieber et al., arXiv 2405.15731)."""

from __future__ import annotations

import torch
from torch import Tensor

from .linear import linear_attention
from .plain import double


def norm_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    score: Tensor,
    activation: str = "exp",
    segments: Tensor | None = None,
) -> Tensor:
    """Linear attention over ``eta_i``: exp, log(1 + exp), elu + 1 or sigmoid of the score, or the score itself.

    query, key (batch, time, heads, dim); value likewise; score (batch | 1, time | 1, heads | 1).
    Returns (batch, time, heads, value_dim) float64.
    """
    x = double(score)
    eta = {
        "exp": lambda: torch.exp(x),
        "softplus": lambda: x.clamp(min=0) + torch.log1p(torch.exp(-x.abs())),
        "elu": lambda: 1 + torch.nn.functional.elu(x),
        "sigmoid": lambda: 1 / (1 + torch.exp(-x)),
        "given": lambda: x,
    }[activation]()
    return linear_attention(value=value, query=query, key=key, segments=segments) / eta[..., None]
