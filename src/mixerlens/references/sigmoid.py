"""Sigmoid attention (Ramapuram et al., arXiv 2409.04431)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .plain import double, per_head


def sigmoid_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    scale: float | None = None,
    bias: float | None = None,
    causal: bool = True,
    segments: Tensor | None = None,
) -> Tensor:
    """Row by row: ``y_i = sum_j v_j / (1 + exp(-(scale q_i . k_j + bias)))``, bias -log(time) where none is given.

    query (batch, time, heads, dim); key, value (batch, time, kv_heads, dim | value_dim).
    Returns (batch, time, heads, value_dim) float64.
    """
    heads, time = query.shape[2], query.shape[1]
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    bias = -math.log(time) if bias is None else bias
    q, k, v = double(query), per_head(key, heads), per_head(value, heads)
    if segments is None:
        segments = torch.zeros(1, time, dtype=torch.long)
    rows = []
    for i in range(time):
        seen = (segments == segments[:, i : i + 1]) & (segments >= 0)
        if causal:
            seen = seen & (torch.arange(time) <= i)
        score = torch.einsum("bhd,bjhd->bhj", q[:, i], k) * scale + bias
        weight = torch.where(seen[:, None], 1 / (1 + torch.exp(-score)), 0.0)
        rows.append(torch.einsum("bhj,bjhe->bhe", weight, v))
    return torch.stack(rows, dim=1)
