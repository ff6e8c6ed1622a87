"""Linear attention (Katharopoulos et al., arXiv 2006.16236): ``S_i = S_{i-1} + k_i v_i^T``, ``z_i = z_{i-1} + k_i``."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, outer, per_head, read


def linear_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    normalize: bool = False,
    scale: float = 1.0,
    segments: Tensor | None = None,
) -> Tensor:
    """``y_i = S_i^T q_i``, divided by ``z_i^T q_i`` if ``normalize``; feature maps are applied by the caller.

    query, key (batch, time, heads | groups, dim); value (batch, time, heads | groups, value_dim).
    Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2])
    q, k, v = per_head(query, heads) * scale, per_head(key, heads), per_head(value, heads)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], heads, q.shape[3], v.shape[3], dtype=torch.float64)
    total = torch.zeros(v.shape[0], heads, q.shape[3], 1, dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        state = keep[t] * state + real[t] * outer(k[:, t], v[:, t])
        total = keep[t] * total + real[t] * k[:, t, :, :, None]
        y = read(q[:, t], state)
        if normalize:
            mass = read(q[:, t], total)
            y = y / torch.where(real[t][..., 0] > 0, mass, 1.0)
        rows.append(y)
    return torch.stack(rows, dim=1)
