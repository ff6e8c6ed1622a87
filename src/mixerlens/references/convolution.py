"""Convolutions, tap by tap: depthwise short filters (arXiv 2312.00752), long ones and Hyena (arXiv 2302.10866)."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import double


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
