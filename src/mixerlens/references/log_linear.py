"""Log-linear attention (Guo et al., arXiv 2506.04761) with a scalar decay: a weight for every bucket of the past."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import double, per_head


def log_linear_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    level_weights: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """Row by row over its buckets: token t is bucket 0; then, from the number of tokens before the last bucket, its
    lowest set bit 2^(l - 1) is taken off again and again, and bucket l holds that many tokens.

    query, key (batch, time, heads | groups, dim); value likewise; log_decay (batch, time, heads); level_weights
    (batch, time, heads, levels).  Segments are runs of tokens.  Returns (batch, time, heads, value_dim) float64.
    """
    heads = level_weights.shape[2]
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    decay, weights = torch.exp(double(log_decay)), double(level_weights)
    batch, time = v.shape[:2]
    if segments is None:
        segments = torch.zeros(batch, time, dtype=torch.long)
    result = []
    for b in range(batch):
        first, rows = 0, []
        for t in range(time):
            if segments[b, t] != segments[b, first]:
                first = t

            def read(s: int, level: int, b: int = b, t: int = t) -> Tensor:
                return (weights[b, t, :, level] * (q[b, t] * k[b, s]).sum(-1))[:, None] * v[b, s]

            row, carried, before = read(t, 0), torch.ones(heads, 1, dtype=torch.float64), t - first
            while before > 0:
                size = before & -before
                for place in reversed(range(before - size, before)):
                    carried = carried * decay[b, first + place + 1, :, None]
                    row = row + carried * read(first + place, size.bit_length())
                before -= size
            rows.append(row if segments[b, t] >= 0 else torch.zeros_like(row))
        result.append(torch.stack(rows))
    return torch.stack(result)
