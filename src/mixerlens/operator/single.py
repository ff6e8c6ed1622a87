"""Steps in single precision: every tile of a few tokens by itself, the state between tiles in float64.

With E_t the products of decays from a tile's start, what a tile makes of a state S is y_t = q_t^T (E_t S + own_t): own
and E take a few roundings of float32, and S goes on by float64 products, so errors do not grow with the length. Half
the memory of ``steps``' float64 is moved, at two more operations a number. For decays of at most 1 in size: the others
could leave the range of float32 within a tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.operator.tokens import Tokens
from mixerlens.subnormals import subnormals_as_zero

BUFFER = 4 * 2**20  # bytes of a buffer of states
SPAN = 64  # tokens whose inputs are prepared at once
TILE = 16  # tokens at most: their roundings add up


def fits(d: CoefficientDynamics) -> bool:
    """Whether no decay exceeds 1 in size."""
    e = d.evolution
    assert isinstance(e, Diagonal | Scalar)
    if isinstance(e, Diagonal) and e.rate is not None and e.step_size is not None:
        return bool((e.rate.real <= 0).all() and (e.step_size >= 0).all())
    if e.log_decay is not None:
        return bool((e.log_decay.real <= 0).all())
    return e.decay is not None and bool((e.decay.abs() <= 1).all())


def sweep(d: CoefficientDynamics, values: Tensor, state: Tensor, *, transposed: bool) -> tuple[Tensor, Tensor]:
    """As ``steps.sweep``."""
    kind = torch.promote_types(d.dtype, values.dtype)
    h = state.permute(0, 3, 2, 1).to(torch.promote_types(kind, torch.float64)).contiguous()
    batch, width, dim, heads = h.shape
    size = max(1, min(d.time, TILE, BUFFER // (h.numel() * kind.itemsize)))
    states = torch.empty(size, *h.shape, dtype=kind, device=h.device)
    room = states.new_empty(size, batch, 1, dim, heads)
    dtype = torch.promote_types(d.coefficient_dtype, values.dtype)
    out = torch.empty(batch, d.time, width, heads, dtype=dtype, device=h.device)
    step = -1 if transposed else 1
    with subnormals_as_zero():
        for lo in range(0, d.time, SPAN)[::step]:
            hi = min(lo + SPAN, d.time)
            tokens = Tokens(d, lo, hi, room)
            read, write = (tokens.key, tokens.query) if transposed else (tokens.query, tokens.key)
            v = values[:, :, lo:hi].permute(2, 0, 3, 1).to(kind).unsqueeze(-2)
            v = (v if transposed else v * tokens.gate).expand(-1, batch, -1, -1, heads).contiguous()
            y = states.new_empty(hi - lo, batch, width, 1, heads)
            for first in range(0, hi - lo, size)[::step]:
                some = slice(first, min(first + size, hi - lo))
                seen = torch.mul(write[some], v[some], out=states[: some.stop - first])
                h = (_backwards if transposed else _forwards)(seen, tokens.decays(some), tokens.total(some), h)
                if read.shape[-1] == 1:
                    torch.matmul(read[some].mT, seen, out=y[some])
                else:
                    torch.sum(seen.mul_(read[some]), -2, keepdim=True, out=y[some])
            y = y.mul_(tokens.gate) if transposed else y
            out[:, lo:hi] = d.readout(y).squeeze(-2).transpose(0, 1)
    return out.permute(0, 3, 1, 2), h.permute(0, 3, 2, 1)


def _forwards(seen: Tensor, a: Tensor, total: Tensor, state: Tensor) -> Tensor:
    """seen_t becomes S_t = a_t S_{t-1} + seen_t from the state before the tile; returns that after it."""
    rows, decays = seen.unbind(0), a.unbind(0)
    for t in range(1, len(rows)):
        rows[t].addcmul_(decays[t], rows[t - 1])
        decays[t].mul_(decays[t - 1])
    after = rows[-1].to(state.dtype, copy=True).addcmul_(total, state)
    seen.addcmul_(a, state.to(seen.dtype))
    return after


def _backwards(seen: Tensor, a: Tensor, total: Tensor, state: Tensor) -> Tensor:
    """seen_t becomes l_t = seen_t + a_{t+1} l_{t+1}, where a_{t+1} l_{t+1} of the last token is `state`; returns
    a_0 l_0."""
    rows, decays = seen.unbind(0), a.unbind(0)
    for t in reversed(range(len(rows) - 1)):
        rows[t].addcmul_(decays[t + 1], rows[t + 1])
        if t + 2 < len(rows):
            decays[t + 1].mul_(decays[t + 2])
    before = (decays[0] * rows[0]).to(state.dtype).addcmul_(total, state)
    narrow = state.to(seen.dtype)
    seen[:-1].addcmul_(a[1:], narrow)
    rows[-1].add_(narrow)
    return before
