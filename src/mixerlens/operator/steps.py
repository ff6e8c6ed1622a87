"""Elementwise evolutions and narrow values: one token after the other, each over batch x dim x heads at once.

A chunk's products cost chunk x dim a token and head, whatever the values' width; a step costs dim x width. For Mamba,
with a head a channel and values of one number, steps are the cheaper way by far, and their rows are so long that the
loop over tokens costs nothing beside them. In float64 throughout: rounded decays would compound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Evolution, Scalar
from mixerlens.shapes import spread, tile, wide

BUFFER = 2 * 2**20  # bytes of a buffer of states
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
    batch, width, _, heads = h.shape
    size = max(1, min(d.time, BUFFER // (h.numel() * kind.itemsize)))
    states = h.new_empty(size, *h.shape)
    out = torch.empty(batch, d.time, heads, width, dtype=torch.promote_types(d.coefficient_dtype, values.dtype))
    out = out.to(values.device)
    starts = range(0, d.time, size)
    for lo in starts[::-1] if transposed else starts:
        span = slice(lo, min(lo + size, d.time))
        a, query, key, gate = _tokens(d, span.start, span.stop)
        v = values[:, :, span].permute(2, 0, 3, 1).to(kind).unsqueeze(-2)
        v = (v if transposed else v * gate).expand(-1, batch, -1, -1, heads)
        seen = torch.mul(query if transposed else key, v, out=states[: v.shape[0]])
        if transposed:
            for t in reversed(range(seen.shape[0])):
                h = a[t] * seen[t].add_(h)
        else:
            for t in range(seen.shape[0]):
                h = seen[t].addcmul_(a[t], h)
            h = h.clone()
        read = key if transposed else query
        y = read.mT.to(kind) @ seen if read.shape[-1] == 1 else (read * seen).sum(-2, keepdim=True)
        y = y * gate if transposed else y
        out[:, span] = d.readout(y).squeeze(-2).permute(1, 0, 3, 2)
    return out.transpose(1, 2), h.permute(0, 3, 2, 1)


def _tokens(d: CoefficientDynamics, lo: int, hi: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a, query, key (time, batch | 1, 1, dim | 1, heads | 1) and the scaling (time, batch | 1, 1, 1, heads | 1).

    The scaling is 0 at padding, and so is a where a segment begins.
    """
    query, key = (spread(tile(wide(x), lo, hi), d.heads) for x in (d.query, d.key))
    one = torch.ones(1, 1, hi - lo, dtype=torch.float64, device=d.device)
    gate = one if d.scaling is None else wide(tile(d.scaling, lo, hi))
    query, key, gate = (_ahead(x) for x in (query, key, gate.unsqueeze(-1)))
    a = _decays(d.evolution, lo, hi)
    if d.support.segments is not None:
        segments = d.support.segments.to(d.device).mT[..., None, None, None]  # (time, batch, 1, 1, 1)
        here, before = segments[lo:hi], torch.cat([segments[max(lo - 1, 0)][None], segments[lo : hi - 1]])
        a, gate = a * ((here == before) & (here >= 0)), gate * (here >= 0)
    return a, query, key, gate


def _ahead(x: Tensor) -> Tensor:
    """(batch, heads, time, dim) -> (time, batch, 1, dim, heads)."""
    return x.permute(2, 0, 3, 1).unsqueeze(2)


def _decays(evolution: Evolution, lo: int, hi: int) -> Tensor:
    """a (time, batch | 1, 1, dim | 1, heads | 1)."""
    if isinstance(evolution, Diagonal) and evolution.rate is not None and evolution.step_size is not None:
        rate = wide(tile(evolution.rate, lo, hi if evolution.rate.shape[1] > 1 else lo + 1))
        step = wide(tile(evolution.step_size, lo, hi).unsqueeze(-1))
        return (_ahead(step).contiguous() * _ahead(rate).contiguous()).exp_()
    assert isinstance(evolution, Diagonal | Scalar)
    a = evolution.factor(lo, hi)
    return _ahead(a.unsqueeze(-1) if isinstance(evolution, Scalar) else a).contiguous()
