"""What every reference needs before its loop: double precision, heads side by side, the segments' boundaries."""

from __future__ import annotations

import torch
from torch import Tensor


def double(x: Tensor | float) -> Tensor:
    """float64, or complex128 for complex input."""
    x = torch.as_tensor(x)
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def per_head(x: Tensor, heads: int) -> Tensor:
    """(batch, time, groups, dim) in double precision with each group repeated for its heads."""
    x = double(x)
    groups = x.shape[2]
    if heads % groups:
        raise ValueError(f"{groups} groups do not divide {heads} heads")
    return x.repeat_interleave(heads // groups, dim=2)


def rotate(x: Tensor, angles: Tensor, layout: str = "half") -> Tensor:
    """Rotary embedding of x (batch, time, heads, dim): pair p of the token at position t turns by ``t * angles[p]``.

    The pairs are (x[p], x[p + dim/2]) for "half" and (x[2p], x[2p + 1]) for "interleaved".
    """
    x, angles = double(x), double(angles)
    turn = torch.arange(x.shape[1], dtype=torch.float64)[:, None, None] * angles
    cos, sin = torch.cos(turn), torch.sin(turn)
    if layout == "half":
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    if layout == "interleaved":
        first, second = x[..., 0::2], x[..., 1::2]
        return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)
    raise ValueError(f"unknown layout {layout!r}")


def boundaries(segments: Tensor | None, batch: int, time: int) -> tuple[list[Tensor], list[Tensor]]:
    """For every t two masks (batch, 1, 1, 1): 1 where the state of t - 1 is kept, 1 where t is a real token."""
    if segments is None:
        segments = torch.zeros(batch, time, dtype=torch.long)
    segments = segments.expand(batch, time)
    keep = [torch.zeros(batch, 1, 1, 1, dtype=torch.float64)]
    keep += [(segments[:, t] == segments[:, t - 1]).double().reshape(-1, 1, 1, 1) for t in range(1, time)]
    real = [(segments[:, t] >= 0).double().reshape(-1, 1, 1, 1) for t in range(time)]
    return keep, real


def read(query_t: Tensor, state: Tensor) -> Tensor:
    """``S^T q`` of one step: (batch, heads, dim), (batch, heads, dim, value_dim) -> (batch, heads, value_dim)."""
    return (query_t[..., None] * state).sum(-2)


def outer(key_t: Tensor, value_t: Tensor) -> Tensor:
    """``k v^T`` of one step: (batch, heads, dim), (batch, heads, value_dim) -> (batch, heads, dim, value_dim)."""
    return key_t[..., :, None] * value_t[..., None, :]
