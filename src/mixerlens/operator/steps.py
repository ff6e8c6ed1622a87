"""Elementwise evolutions and narrow values: one token after the other, each over batch x dim x heads at once.

A chunk's products cost chunk x dim a token and head, whatever the values' width; a step costs dim x width. For Mamba,
with a head a channel and values of one number, steps are the cheaper way by far, and their rows are so long that the
loop over tokens costs nothing beside them. In float64 throughout: rounded decays would compound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.shapes import spread, tile, wide

BUFFER = 2 * 2**20  # bytes of a buffer of states
SPAN = 64  # tokens whose inputs are prepared at once
NARROW = 4  # values a head up to which steps win
LONG = 4096  # numbers a step from which its overhead does not count


def cheaper(d: CoefficientDynamics, values: Tensor) -> bool:
    """Whether steps are the cheaper way to the same answer."""
    batch, width = max(d.batch, values.shape[0]), values.shape[-1]
    return isinstance(d.evolution, Diagonal | Scalar) and width <= NARROW and batch * d.heads * d.dim * width >= LONG


def sweep(d: CoefficientDynamics, values: Tensor, state: Tensor, *, transposed: bool) -> tuple[Tensor, Tensor]:
    """The numerators (batch, heads, time, m) and the state at the other end; arguments as in ``blocks.sweep``.

    Forwards S_t = a_t S_{t-1} + k_t b_t v_t^T, y_t = S_t^T q_t. Transposed, from the last token on,
    l_t = r_t + q_t w_t^T, y_t = b_t l_t^T k_t, r_{t-1} = a_t l_t.
    """
    kind = torch.promote_types(torch.promote_types(d.dtype, values.dtype), torch.float64)
    h = state.permute(0, 3, 2, 1).to(kind).contiguous()  # (batch, width, dim, heads): the heads are the long rows
    batch, width, dim, heads = h.shape
    size = max(1, min(d.time, SPAN, BUFFER // (h.numel() * kind.itemsize)))
    states, room = h.new_empty(size, *h.shape), h.new_empty(size, batch, 1, dim, heads)
    dtype = torch.promote_types(d.coefficient_dtype, values.dtype)
    out = torch.empty(batch, d.time, width, heads, dtype=dtype, device=values.device)  # as y lies in memory
    starts = range(0, d.time, SPAN)
    for lo in starts[::-1] if transposed else starts:
        hi = min(lo + SPAN, d.time)
        tokens = _Tokens(d, lo, hi, room)
        v = values[:, :, lo:hi].permute(2, 0, 3, 1).to(kind).unsqueeze(-2)
        v = (v if transposed else v * tokens.gate).expand(-1, batch, -1, -1, heads).contiguous()
        read, write = (tokens.key, tokens.query) if transposed else (tokens.query, tokens.key)
        y = h.new_empty(hi - lo, batch, width, 1, heads)
        tiles = range(0, hi - lo, size)
        for first in tiles[::-1] if transposed else tiles:
            tile_ = slice(first, min(first + size, hi - lo))
            a, seen = tokens.decays(tile_), states[: tile_.stop - first]
            torch.mul(write[tile_], v[tile_], out=seen)
            each = list(zip(a.expand(len(seen), -1, -1, -1, -1).unbind(0), seen.unbind(0), strict=True))
            if transposed:
                for decay, s in reversed(each):
                    torch.mul(decay, s.add_(h), out=h)
            else:
                before = h
                for decay, s in each:
                    before = s.addcmul_(decay, before)
                h.copy_(before)
            if read.shape[-1] == 1:
                torch.matmul(read[tile_].mT, seen, out=y[tile_])
            else:
                torch.sum(read[tile_] * seen, -2, keepdim=True, out=y[tile_])
        y = y.mul_(tokens.gate) if transposed else y
        out[:, lo:hi] = d.readout(y).squeeze(-2).transpose(0, 1)
    return out.permute(0, 3, 1, 2), h.permute(0, 3, 2, 1)


class _Tokens:
    """What the tokens of a span bring: query, key (time, batch | 1, 1, dim | 1, heads | 1) and gate, the scaling,
    (time, batch | 1, 1, 1, heads | 1). It is 0 at padding, and so is the decay where a segment begins."""

    def __init__(self, d: CoefficientDynamics, lo: int, hi: int, room: Tensor) -> None:
        query, key = (spread(tile(wide(x), lo, hi), d.heads) for x in (d.query, d.key))
        one = torch.ones(1, 1, hi - lo, dtype=torch.float64, device=d.device)
        gate = one if d.scaling is None else wide(tile(d.scaling, lo, hi))
        kind = room.dtype
        self.query, self.key, self.gate = (_ahead(x.to(kind)) for x in (query, key, gate.unsqueeze(-1)))
        self.keeps: Tensor | None = None
        if d.support.segments is not None:
            segments = d.support.segments.to(d.device).mT[..., None, None, None]  # (time, batch, 1, 1, 1)
            here, before = segments[lo:hi], torch.cat([segments[max(lo - 1, 0)][None], segments[lo : hi - 1]])
            self.keeps, self.gate = (here == before) & (here >= 0), self.gate * (here >= 0)
        e, self._room, self._rate = d.evolution, room, None
        if isinstance(e, Diagonal) and e.rate is not None and e.step_size is not None and e.rate.shape[1] == 1:
            self._rate = _ahead(wide(tile(e.rate, lo, lo + 1))).to(kind).contiguous()
            self._given = _ahead(wide(tile(e.step_size, lo, hi).unsqueeze(-1))).to(kind).contiguous()
        else:
            assert isinstance(e, Diagonal | Scalar)
            a = e.factor(lo, hi)
            self._given = _ahead(a.unsqueeze(-1) if isinstance(e, Scalar) else a).to(kind).contiguous()

    def decays(self, tokens: slice) -> Tensor:
        """a (time, batch | 1, 1, dim | 1, heads | 1) of some tokens of the span."""
        a = self._given[tokens]
        if self._rate is not None:
            shape = torch.Size([a.shape[0], max(a.shape[1], self._rate.shape[1]), 1, self._rate.shape[3], a.shape[4]])
            room = self._room[: shape[0]]
            a = torch.mul(a, self._rate, out=room if room.shape == shape else None).exp_()
        return a if self.keeps is None else a * self.keeps[tokens]


def _ahead(x: Tensor) -> Tensor:
    """(batch, heads, time, dim) -> (time, batch, 1, dim, heads)."""
    return x.permute(2, 0, 3, 1).unsqueeze(2)
