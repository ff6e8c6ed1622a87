"""Based (Arora et al., arXiv 2402.18668): the second-order Taylor feature map, written out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read


def based(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    scale: float | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """Normalised linear attention with features ``(1, x, x (x) x / sqrt 2)`` of q and k, each times ``sqrt(scale)``.

    query (batch, time, heads, dim); key, value (batch, time, kv_heads, dim | value_dim), scale not negative.
    Returns (batch, time, heads, value_dim) float64.
    """
    heads = query.shape[2]
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    q, k = (_features(math.sqrt(scale) * x) for x in (double(query), per_head(key, heads)))
    v = per_head(value, heads)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], heads, q.shape[3], v.shape[3], dtype=torch.float64)
    total = torch.zeros(v.shape[0], heads, q.shape[3], 1, dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        state = keep[t] * state + real[t] * outer(k[:, t], v[:, t])
        total = keep[t] * total + real[t] * k[:, t, :, :, None]
        mass = torch.where(real[t][..., 0] > 0, read(q[:, t], total), 1.0)
        rows.append(real[t][..., 0] * read(q[:, t], state) / mass)
    return torch.stack(rows, dim=1)


def _features(x: Tensor) -> Tensor:
    square = (x[..., :, None] * x[..., None, :]).flatten(-2) / math.sqrt(2)
    return torch.cat([torch.ones_like(x[..., :1]), x, square], -1)
