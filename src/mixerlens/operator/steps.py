"""Elementwise evolutions and narrow values: one token after the other, each over batch x dim x heads at once.

A chunk's products cost chunk x dim a token and head, whatever the values' width; a step costs dim x width. For Mamba,
with a head a channel and values of one number, steps are the cheaper way by far, and their rows are so long that the
loop over tokens costs nothing beside them. In float64, for rounded decays would compound; where tokens and values are
in single precision, by ``single``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.operator import single
from mixerlens.operator.tokens import Tokens

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
    kind = torch.promote_types(d.dtype, values.dtype)
    if kind in (torch.float32, torch.complex64) and single.fits(d):
        return single.sweep(d, values, state, transposed=transposed)
    kind = torch.promote_types(kind, torch.float64)
    h = state.permute(0, 3, 2, 1).to(kind).contiguous()  # (batch, width, dim, heads): the heads are the long rows
    batch, width, dim, heads = h.shape
    size = max(1, min(d.time, SPAN, BUFFER // (h.numel() * kind.itemsize)))
    states, room = h.new_empty(size, *h.shape), h.new_empty(size, batch, 1, dim, heads)
    dtype = torch.promote_types(d.coefficient_dtype, values.dtype)
    out = torch.empty(batch, d.time, width, heads, dtype=dtype, device=values.device)  # as y lies in memory
    starts = range(0, d.time, SPAN)
    for lo in starts[::-1] if transposed else starts:
        hi = min(lo + SPAN, d.time)
        tokens = Tokens(d, lo, hi, room)
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
