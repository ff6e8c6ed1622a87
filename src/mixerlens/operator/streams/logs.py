"""Diagonal evolutions given by logarithms: a chunk's generators by one exponential an entry.

Within a chunk whose logarithms sum to at most ``RANGE`` every product of decays is a quotient of two numbers far from
the ends of the float32 range, exact to rounding; sums of logarithms and their exponentials are float64. Where some
chunk of even ``SHORTEST`` tokens exceeds it (a closed gate), the products of ``evolution.anchored`` are used.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal
from mixerlens.exponential import exponential
from mixerlens.operator.streams.buffers import Buffers
from mixerlens.operator.streams.maps import Maps
from mixerlens.shapes import spread, tile, wide

RANGE = 60.0
LONGEST, SHORTEST = 64, 8


def given(d: CoefficientDynamics) -> bool:
    """Whether the decays are real and given by their logarithms."""
    e = d.evolution
    if type(e) is not Diagonal or e.decay is not None or e.is_complex or d.dtype.is_complex:
        return False
    return e.rate is None or e.rate.shape[1] == 1


def chunk(d: CoefficientDynamics) -> int | None:
    """The longest chunk whose logarithms stay in range everywhere; None where there is none."""
    size = LONGEST
    while size >= SHORTEST:
        fill = -d.time % size
        e = d.evolution
        assert isinstance(e, Diagonal)
        if e.rate is not None and e.step_size is not None:
            steps = pad(tile(wide(e.step_size.abs()), 0, d.time), (0, fill)).unflatten(-1, (-1, size))
            total = steps.sum(-1).amax(-1) * tile(wide(e.rate.abs()), 0, 1).amax((-2, -1))
        else:
            assert e.log_decay is not None
            total = pad(tile(wide(e.log_decay.abs()), 0, d.time), (0, 0, 0, fill)).unflatten(-2, (-1, size)).sum(-2)
        if bool((total <= RANGE).all()):
            return size
        size //= 2
    return None


def windows(
    d: CoefficientDynamics, lo: int, size: int, count: int, buffers: Buffers
) -> tuple[Tensor, Tensor, Tensor, Maps]:
    """intra, emit, inject (batch, heads, count, size, ...) and maps of ``count`` chunks from lo on, scaling in; tokens
    beyond the last are zero. Of intra only what is on or below the diagonal is meant."""
    hi = min(lo + size * count, d.time)
    fill = (0, 0, 0, lo + size * count - hi)

    def apart(x: Tensor) -> Tensor:
        """(batch | 1, heads | groups | 1, tokens, n) -> (batch | 1, heads | 1, count, size, n)."""
        x = pad(x, fill) if fill[-1] else x
        return spread(x, d.heads).unflatten(2, (count, size))

    def fresh(name: str, dtype: torch.dtype) -> Tensor:
        return buffers.take(name, (d.batch, d.heads, count, size, d.dim), d.query, dtype)

    e = d.evolution
    assert isinstance(e, Diagonal)
    total = fresh("logs", torch.float64)  # sums of logarithms, then products
    exp, factor = exponential(total.device, total.dtype)
    if e.rate is not None and e.step_size is not None:
        steps = apart(wide(tile(e.step_size, lo, hi)).unsqueeze(-1)).cumsum(-2)
        rate = factor * wide(tile(e.rate, 0, 1)).unsqueeze(2)
        torch.mul(steps.expand(*total.shape[:-1], 1), rate.expand(*rate.shape[:-1], d.dim), out=total)
    else:
        assert e.log_decay is not None
        torch.mul(apart(wide(tile(e.log_decay, lo, hi))).expand_as(total), factor, out=total).cumsum_(-2)
    exp(total, out=total)
    middle, whole = (total[..., t, None, :].clone() for t in (size // 2, -1))
    query, key = (apart(tile(x, lo, hi).to(d.dtype)) for x in (d.query, d.key))
    if d.scaling is not None:
        key = key * apart(tile(d.scaling, lo, hi).to(d.dtype).unsqueeze(-1))
    # every factor is formed in float64: small queries or keys times a small factor would leave the range of float32
    ratio = fresh("ratio", torch.float64)
    emit = fresh("emit", d.dtype).copy_(total).mul_(query)
    right = fresh("right", d.dtype).copy_(torch.div(total, middle, out=ratio)).mul_(query)
    inject = fresh("inject", d.dtype).copy_(torch.div(whole, total, out=ratio)).mul_(key)
    left = fresh("left", d.dtype).copy_(torch.div(middle, total, out=ratio)).mul_(key)
    own = buffers.take("own", (d.batch * d.heads * count, size, size), emit)
    torch.bmm(left.flatten(0, 2), right.flatten(0, 2).mT, out=own)
    intra = own.view(d.batch, d.heads, count, size, size).mT  # as tiles are stored
    return intra, emit, inject, Maps(whole[..., 0, :])
