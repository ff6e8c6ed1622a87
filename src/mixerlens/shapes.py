"""Axis conventions, in one place.

Outside, tensors are (batch, time, heads, ...). Inside an algorithm they are tiles (batch, heads, chunk, ...), so that
the last two axes multiply. Batch, time and heads of size 1 broadcast; head groups divide the heads, and head ``h``
uses group ``h // (heads / groups)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mixerlens.errors import InputError


def tile(x: Tensor, lo: int, hi: int) -> Tensor:
    """(batch, time | 1, heads, ...) -> (batch, heads, hi - lo, ...) for the tokens lo <= t < hi."""
    part = x.expand(-1, hi - lo, *x.shape[2:]) if x.shape[1] == 1 else x[:, lo:hi]
    return part.transpose(1, 2)


def at(x: Tensor, t: int) -> Tensor:
    """(batch, time | 1, heads, ...) -> (batch, heads, ...) at token t."""
    return x[:, 0 if x.shape[1] == 1 else t]


def spread(x: Tensor, heads: int, axis: int = 1) -> Tensor:
    """Repeat each head group over its heads; 1 stays 1 (it broadcasts for free)."""
    groups = x.shape[axis]
    return x if groups in (1, heads) else x.repeat_interleave(heads // groups, dim=axis)


def take_heads(x: Tensor, index: Sequence[int], heads: int) -> Tensor:
    """The entries of axis 2 that the given heads use."""
    groups = x.shape[2]
    if groups == 1:
        return x
    per_group = heads // groups
    wanted = [h // per_group for h in index]
    if wanted == list(range(wanted[0], wanted[0] + len(wanted))):  # a view, not a copy
        return x[:, :, wanted[0] : wanted[0] + len(wanted)]
    return x.index_select(2, torch.tensor(wanted, device=x.device))


def take_tokens(x: Tensor, lo: int, hi: int) -> Tensor:
    """The tokens lo <= t < hi of a (batch, time | 1, ...) tensor; what is constant in time stays."""
    return x if x.shape[1] == 1 else x[:, lo:hi]


def fold(x: Tensor, batch: int, lo: int, size: int, count: int) -> Tensor:
    """The tokens from lo on as ``count`` windows of ``size``, side by side on the batch axis, batch by batch.

    (batch | 1, time | 1, ...) -> (batch * count | 1, size | 1, ...); what is constant in batch and time stays as it is.
    """
    if x.shape[1] == 1:
        return x if x.shape[0] == 1 else x.repeat_interleave(count, 0)
    return x[:, lo : lo + size * count].expand(batch, *(-1,) * (x.dim() - 1)).unflatten(1, (count, size)).flatten(0, 1)


def common(name: str, sizes: dict[str, int], *, groups: bool = False) -> int:
    """The size an axis broadcasts to, or an error that lists who disagrees."""
    size = max(sizes.values())
    bad = {k: n for k, n in sizes.items() if n != size and (n != 1 if not groups else n == 0 or size % n)}
    if bad:
        rule = "must divide it" if groups else "must be 1 or equal"
        listed = ", ".join(f"{k} {n}" for k, n in sizes.items())
        raise InputError(f"{name} sizes do not fit together ({listed}): each {rule}")
    return size


def working(dtype: torch.dtype) -> torch.dtype:
    """The dtype computed in: half precisions are computed in float32, integers are refused."""
    if dtype in (torch.float64, torch.float32, torch.complex64, torch.complex128):
        return dtype
    if dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    raise InputError(f"dtype {dtype} is not a floating point dtype: convert to float32 or float64 first")


def wide(x: Tensor) -> Tensor:
    """float64 or complex128: decays, angles and phases are formed here before any cast down."""
    return x.to(torch.complex128 if x.is_complex() else torch.float64)
