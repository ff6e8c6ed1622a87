"""Linear recurrences with one gated number a channel: the RG-LRU of Griffin (De et al., arXiv 2402.19427)."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double


def rg_lru(*, value: Tensor, log_decay: Tensor, input_gate: Tensor, segments: Tensor | None = None) -> Tensor:
    """``h_t = a_t h_{t-1} + sqrt(1 - a_t^2) i_t x_t`` with ``a_t = exp(log_decay_t)``.

    value (batch, time, channels, value_dim), 1 in the model; log_decay <= 0 and input_gate (batch, time, channels).
    Returns (batch, time, channels, value_dim) float64.
    """
    g, i, x = double(log_decay), double(input_gate), double(value)
    keep, real = boundaries(segments, x.shape[0], x.shape[1])
    h = torch.zeros_like(x[:, 0])
    rows = []
    for t in range(x.shape[1]):
        a = torch.exp(g[:, t])[..., None]
        # 1 - a^2 = 2 |log a| + ... cancels for a near 1; -2 a sinh(log a) is the same without it
        square = torch.where(a > 0.5, -2 * a * torch.sinh(torch.clamp(g[:, t], min=-1.0))[..., None], 1 - a * a)
        write = torch.sqrt(square) * i[:, t, :, None] * x[:, t]
        h = keep[t][..., 0] * a * h + real[t][..., 0] * write
        rows.append(real[t][..., 0] * h)
    return torch.stack(rows, dim=1)
