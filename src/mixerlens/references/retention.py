"""Retention (RetNet, Sun et al., arXiv 2307.08621): ``S_n = gamma S_{n-1} + k_n v_n^T`` on rotated queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read, rotate


def retention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    decay: Tensor,
    rope: Tensor | None = None,
    rope_layout: str = "half",
    scale: float = 1.0,
    segments: Tensor | None = None,
) -> Tensor:
    """``y_n = S_n^T q_n``; q and k turn by ``n * rope`` as in the paper's ``Q e^{i n theta}``, ``K e^{i n theta}``.

    query, key (batch, time, heads | groups, dim); value likewise; decay: gamma (heads); rope: angles (dim/2).
    Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2])
    q, k, v = per_head(query, heads) * scale, per_head(key, heads), per_head(value, heads)
    if rope is not None:
        q, k = rotate(q, rope, rope_layout), rotate(k, rope, rope_layout)
    gamma = double(decay).reshape(-1, 1, 1)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], heads, q.shape[3], v.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        state = gamma * keep[t] * state + real[t] * outer(k[:, t], v[:, t])
        rows.append(read(q[:, t], state))
    return torch.stack(rows, dim=1)
