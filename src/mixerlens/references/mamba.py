"""Mamba (Gu and Dao, arXiv 2312.00752) and Mamba-2 (Dao and Gu, arXiv 2405.21060), without their D and z."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read


def mamba(*, value: Tensor, A: Tensor, B: Tensor, C: Tensor, dt: Tensor, segments: Tensor | None = None) -> Tensor:
    """``h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t``, ``y_t = C_t^T h_t``, every channel by itself.

    value (batch, time, channels, value_dim), 1 in the model; A (channels, state) negative; B, C (batch, time, state);
    dt (batch, time, channels) > 0.  Returns (batch, time, channels, value_dim) float64.
    """
    A, B, C, dt, v = double(A), double(B), double(C), double(dt), double(value)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], A.shape[0], A.shape[1], v.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        step = dt[:, t, :, None]  # (batch, channels, 1)
        write = outer(step * B[:, t, None, :], v[:, t])
        state = keep[t] * torch.exp(step * A)[..., None] * state + real[t] * write
        rows.append(read(C[:, t, None, :], state))
    return torch.stack(rows, dim=1)


def mamba2(*, value: Tensor, A: Tensor, B: Tensor, C: Tensor, dt: Tensor, segments: Tensor | None = None) -> Tensor:
    """``h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T``, ``y_t = h_t^T C_t`` with one scalar A a head.

    value (batch, time, heads, value_dim); A (heads) negative; B, C (batch, time, groups, state);
    dt (batch, time, heads) > 0.  Returns (batch, time, heads, value_dim) float64.
    """
    heads = A.shape[0]
    A, dt = double(A), double(dt)
    B, C, v = per_head(B, heads), per_head(C, heads), per_head(value, heads)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], heads, B.shape[3], v.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        decay = torch.exp(dt[:, t] * A)[..., None, None]
        write = outer(dt[:, t, :, None] * B[:, t], v[:, t])
        state = keep[t] * decay * state + real[t] * write
        rows.append(read(C[:, t], state))
    return torch.stack(rows, dim=1)
