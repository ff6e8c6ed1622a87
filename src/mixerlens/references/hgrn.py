"""HGRN2 (Qin et al., arXiv 2404.07904) and gated slot attention (Zhang et al., arXiv 2409.07146)."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read


def hgrn2(*, value: Tensor, query: Tensor, log_forget: Tensor, segments: Tensor | None = None) -> Tensor:
    """``S_t = diag(f_t) S_{t-1} + (1 - f_t) v_t^T``, ``y_t = S_t^T q_t``.

    query, log_forget (batch, time, heads, dim); value (batch, time, heads, value_dim).  Returns (batch, time, heads,
    value_dim) float64.
    """
    q, f, v = double(query), torch.exp(double(log_forget)), double(value)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], v.shape[2], q.shape[3], v.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        state = keep[t] * f[:, t, :, :, None] * state + real[t] * outer(1 - f[:, t], v[:, t])
        rows.append(real[t][..., 0] * read(q[:, t], state))
    return torch.stack(rows, dim=1)


def gated_slot_attention(
    *, value: Tensor, query: Tensor, key: Tensor, log_forget: Tensor, segments: Tensor | None = None
) -> Tensor:
    """``K_t = diag(f_t) K_{t-1} + (1 - f_t) k_t^T``, V_t likewise, ``y_t = V_t^T softmax(K_t q_t)``.

    query (batch, time, heads, dim); key, log_forget (batch, time, groups, dim | slots); value (batch, time, groups |
    heads, value_dim).  Returns (batch, time, heads, value_dim) float64.
    """
    heads = query.shape[2]
    q, k, v = double(query), per_head(key, heads), per_head(value, heads)
    f = torch.exp(per_head(log_forget, heads))
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    keys = torch.zeros(v.shape[0], heads, f.shape[3], q.shape[3], dtype=torch.float64)
    values = torch.zeros(v.shape[0], heads, f.shape[3], v.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        kept = keep[t] * f[:, t, :, :, None]
        keys = kept * keys + real[t] * outer(1 - f[:, t], k[:, t])
        values = kept * values + real[t] * outer(1 - f[:, t], v[:, t])
        slots = torch.softmax((keys * q[:, t, :, None, :]).sum(-1), -1)
        rows.append(real[t][..., 0] * read(slots, values))
    return torch.stack(rows, dim=1)
