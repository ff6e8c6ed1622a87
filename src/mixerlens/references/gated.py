"""Gated linear attention (Yang et al., arXiv 2312.06635): ``S_t = Diag(alpha_t) S_{t-1} + k_t v_t^T``."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, outer, per_head, read


def gated_linear_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    scale: float = 1.0,
    segments: Tensor | None = None,
) -> Tensor:
    """``y_t = S_t^T q_t`` with ``alpha_t = exp(log_decay_t)``, log_decay (batch, time, heads, dim) <= 0.

    query, key (batch, time, heads | groups, dim); value likewise.  Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], log_decay.shape[2])
    q, k, v = per_head(query, heads) * scale, per_head(key, heads), per_head(value, heads)
    alpha = torch.exp(per_head(log_decay, heads))
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], heads, q.shape[3], v.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        state = keep[t] * alpha[:, t, :, :, None] * state + real[t] * outer(k[:, t], v[:, t])
        rows.append(read(q[:, t], state))
    return torch.stack(rows, dim=1)
