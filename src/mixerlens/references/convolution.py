"""Sums over a window, term by term.

Depthwise filters, short (Mamba, arXiv 2312.00752) and long (CKConv, arXiv 2102.02611), Hyena (arXiv 2302.10866) and
linear attention (arXiv 2006.16236) that sees the last tokens only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import double, per_head


def short_convolution(
    *, value: Tensor, taps: Tensor, length: int | None = None, segments: Tensor | None = None
) -> Tensor:
    """``y_t = sum_l taps[:, l] v_{t-l}`` over the lags l < width that stay inside the segment of t.

    value (batch, time, channels, value_dim); taps (channels, width); length, where given, must be the values' own.
    Returns (batch, time, channels, value_dim) float64.
    """
    v, taps = double(value), double(taps)
    time = v.shape[1]
    if length is not None and length != time:
        raise ValueError(f"length {length} but the values have {time} tokens")
    if segments is None:
        segments = torch.zeros(1, time, dtype=torch.long)
    rows = []
    for t in range(time):
        y = torch.zeros_like(v[:, 0] * taps[0, 0])
        for lag in range(min(taps.shape[1], t + 1)):
            seen = (segments[:, t] == segments[:, t - lag]) & (segments[:, t] >= 0)
            y = y + seen[:, None, None] * taps[:, lag, None] * v[:, t - lag]
        rows.append(y)
    return torch.stack(rows, dim=1)


def hyena(
    *, value: Tensor, taps: Tensor, query_gate: Tensor, key_gate: Tensor, segments: Tensor | None = None
) -> Tensor:
    """``x1 * (h conv (x2 * v))``, the order-2 operator; gates (batch, time, channels), the rest as for the filter."""
    gated = double(key_gate)[..., None] * double(value)
    return double(query_gate)[..., None] * short_convolution(value=gated, taps=taps, segments=segments)


def sliding_window_linear_attention(
    *, value: Tensor, query: Tensor, key: Tensor, window: int, segments: Tensor | None = None
) -> Tensor:
    """``y_t = sum_j (q_t . k_j) v_j`` over the ``window`` tokens up to t that are in its segment.

    query, key (batch, time, heads | groups, dim); value likewise.  Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2])
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    batch, time = v.shape[:2]
    segments = torch.zeros(batch, time, dtype=torch.long) if segments is None else segments.expand(batch, time)
    rows = []
    for t in range(time):
        y = torch.zeros_like(v[:, t])
        for j in range(max(0, t - window + 1), t + 1):
            seen = (segments[:, t] == segments[:, j]) & (segments[:, t] >= 0)
            y = y + seen[:, None, None] * (q[:, t] * k[:, j]).sum(-1, keepdim=True) * v[:, j]
        rows.append(y)
    return torch.stack(rows, dim=1)
