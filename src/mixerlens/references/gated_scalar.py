"""Linear recurrences with one gated number a channel.

The RG-LRU of Griffin (De et al., arXiv 2402.19427), minGRU and minLSTM (Feng et al., arXiv 2410.01201) and the
dechunking layer of H-Net (Hwang et al., arXiv 2507.07955).
"""

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


def min_gru(*, value: Tensor, update_gate: Tensor, segments: Tensor | None = None) -> Tensor:
    """``h_t = (1 - z_t) h_{t-1} + z_t v_t``; update_gate (batch, time, channels), value with a value_dim more."""
    z, v = double(update_gate), double(value)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    h = torch.zeros_like(v[:, 0])
    rows = []
    for t in range(v.shape[1]):
        gate = z[:, t, :, None]
        h = keep[t][..., 0] * h
        h = h + real[t][..., 0] * gate * v[:, t] - gate * h
        rows.append(real[t][..., 0] * h)
    return torch.stack(rows, dim=1)


def min_lstm(*, value: Tensor, forget_gate: Tensor, input_gate: Tensor, segments: Tensor | None = None) -> Tensor:
    """``h_t = f' h_{t-1} + i' v_t`` with the gates divided by their sum; shapes as :func:`min_gru`."""
    f, i, v = double(forget_gate), double(input_gate), double(value)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    h = torch.zeros_like(v[:, 0])
    rows = []
    for t in range(v.shape[1]):
        forget, entry = f[:, t, :, None], i[:, t, :, None]
        h = (forget * keep[t][..., 0] * h + entry * real[t][..., 0] * v[:, t]) / (forget + entry)
        rows.append(real[t][..., 0] * h)
    return torch.stack(rows, dim=1)


def dechunk_ema(
    *, value: Tensor, probability: Tensor, boundary: Tensor | None = None, segments: Tensor | None = None
) -> Tensor:
    """As the layer does it: pick the chunks, average ``z_c = p_c v_c + (1 - p_c) z_{c-1}`` over them, repeat each.

    value (batch, time, heads, value_dim), probability (batch, time, heads), boundary (batch, time) true where a chunk
    begins.  A token before the first chunk of its segment, and padding, gets zero.
    """
    p, v = double(probability), double(value)
    batch, time = v.shape[:2]
    segments = torch.zeros(batch, time, dtype=torch.long) if segments is None else segments.expand(batch, time)
    boundary = torch.ones(batch, time, dtype=torch.bool) if boundary is None else boundary
    rows = []
    for b in range(batch):
        row = [torch.zeros_like(v[b, 0]) for _ in range(time)]
        for name in sorted({int(s) for s in segments[b] if s >= 0}):
            inside = [t for t in range(time) if int(segments[b, t]) == name]
            chunks = [t for t in inside if bool(boundary[b, t])]
            smooth, z = {}, torch.zeros_like(v[b, 0])
            for c in chunks:
                z = p[b, c, :, None] * v[b, c] + (1 - p[b, c, :, None]) * z
                smooth[c] = z
            for t in inside:
                begun = [c for c in chunks if c <= t]
                if begun:
                    row[t] = smooth[begun[-1]]
        rows.append(torch.stack(row))
    return torch.stack(rows)
