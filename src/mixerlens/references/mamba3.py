"""Mamba-3 (Lahoti et al., arXiv 2603.15569), one input and one output a head, without its norms, D and z."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read


def mamba3(
    *,
    value: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    trapezoid: Tensor,
    angle: Tensor | None = None,
    layout: str = "interleaved",
    segments: Tensor | None = None,
) -> Tensor:
    """``h_t = a_t h_{t-1} + (1 - w_t) dt_t a_t B_{t-1} u_{t-1}^T + w_t dt_t B_t u_t^T``, ``y_t = h_t^T C_t``.

    As the model computes it: B_t and C_t are first turned by the sum of the angles up to t.  value (batch, time, heads,
    value_dim); A (heads) or (batch, time, heads), negative; B, C (batch, time, groups, state); dt, trapezoid = w
    (batch, time, heads); angle (batch, time, heads, pairs).  Returns (batch, time, heads, value_dim) float64.
    """
    heads = dt.shape[2]
    A, dt, w = double(A), double(dt), double(trapezoid)
    B, C, u = per_head(B, heads), per_head(C, heads), per_head(value, heads)
    if angle is not None:
        total = per_head(angle, heads).cumsum(1)
        B, C = _turn(B, total, layout), _turn(C, total, layout)
    a = torch.exp(A * dt)
    keep, real = boundaries(segments, u.shape[0], u.shape[1])
    h = torch.zeros(u.shape[0], heads, B.shape[3], u.shape[3], dtype=torch.float64)
    before = torch.zeros_like(h)
    rows = []
    for t in range(u.shape[1]):
        beta = ((1 - w[:, t]) * dt[:, t] * a[:, t])[..., None, None]
        gamma = (w[:, t] * dt[:, t])[..., None, None]
        write = real[t] * outer(B[:, t], u[:, t])
        h = keep[t] * (a[:, t, :, None, None] * h + beta * before) + gamma * write
        before = write
        rows.append(real[t][..., 0] * read(C[:, t], h))
    return torch.stack(rows, dim=1)


def _turn(x: Tensor, angle: Tensor, layout: str) -> Tensor:
    """x (..., state) with pair p turned counter-clockwise by angle (..., pairs); dimensions without an angle stay."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    pairs, half = angle.shape[-1], x.shape[-1] // 2
    out = x.clone()
    for p in range(pairs):
        i, j = (2 * p, 2 * p + 1) if layout == "interleaved" else (p, p + half)
        out[..., i] = cos[..., p] * x[..., i] - sin[..., p] * x[..., j]
        out[..., j] = sin[..., p] * x[..., i] + cos[..., p] * x[..., j]
    return out
