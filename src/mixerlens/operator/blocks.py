"""Linear readouts, one block of tokens at a time: all of its chunks side by side, the carries between them in order.

S = A S + b k v^T is carried from chunk to chunk by the evolution's factors; inside a chunk the scores are a small
matrix. The transpose is the same sweep run backwards with emit and inject exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Carry

BLOCK = 4 * 2**20  # bytes of the largest temporary of a block: what follows one another stays near the cache


@dataclass(frozen=True)
class Windows:
    """The factors of chunks side by side, with the segment borders in: what does not cross a border is zero.

    intra, emit, inject: (batch | 1, chunks, heads | 1, c, ...).
    """

    intra: Tensor
    emit: Tensor
    inject: Tensor
    carries: Sequence[Carry]


@dataclass(frozen=True, eq=False)
class _Gated(Carry):
    """0 where the state dies in the chunk: gate (batch | 1, 1, 1, 1)."""

    inner: Carry
    gate: Tensor

    def forward(self, state: Tensor) -> Tensor:
        return self.inner.forward(state) * self.gate

    def backward(self, rows: Tensor) -> Tensor:
        return self.inner.backward(rows) * self.gate


def windows(d: CoefficientDynamics, lo: int, size: int, count: int, before: Tensor | None) -> Windows:
    """The factors of ``count`` chunks of ``size`` tokens from lo on. before: see ``segment_before``."""
    f = d.factors(lo, lo + size) if count == 1 else d.fold(lo, size, count).factors(0, size)

    def apart(x: Tensor) -> Tensor:
        return x.unsqueeze(1) if x.shape[0] == 1 else x.unflatten(0, (-1, count))

    intra, emit, inject = (apart(x) for x in (f.intra, f.emit, f.inject))
    carries = f.carry.windows(count)
    if d.support.segments is None:
        return Windows(intra, emit, inject, carries)
    assert before is not None
    here = d.support.segments.to(d.device)[:, lo : lo + size * count].unflatten(1, (count, size))
    earlier = torch.cat([before[:, None], here[:, :-1, -1]], 1)[..., None]
    last, real = here[..., -1:], here >= 0
    same = (here[..., :, None] == here[..., None, :]) & real[..., None]
    enters, stays = (here == earlier) & real, (here == last) & real
    through = ((earlier == last) & (last >= 0))[..., None, None].unbind(1)
    return Windows(
        intra * same[:, :, None],
        emit * enters[:, :, None, :, None],
        inject * stays[:, :, None, :, None],
        [_Gated(carry, gate) for carry, gate in zip(carries, through, strict=True)],
    )


def segment_before(d: CoefficientDynamics, lo: int) -> Tensor | None:
    """(batch | 1,): the segment of the state that enters at token lo; at token 0 that token's own."""
    return None if d.support.segments is None else d.support.segments[:, max(lo - 1, 0)].to(d.device)


def pieces(d: CoefficientDynamics) -> Iterator[tuple[int, int, int]]:
    """(lo, size, count): the whole sequence as chunks of one size, as far as they can be formed together."""
    size, lo = d.evolution.chunk, 0
    if d.evolution.begins and d.time > size:  # the first chunk has an A_0 of its own
        yield 0, size, 1
        lo = size
    count = (d.time - lo) // size
    if count:
        yield lo, size, count
    if lo + size * count < d.time:
        yield lo + size * count, d.time - lo - size * count, 1


def arranged(x: Tensor, lo: int, size: int, count: int) -> Tensor:
    """The tokens of one piece as (batch, count, heads, size, m), from (batch, heads, time, m)."""
    return x[:, :, lo : lo + size * count].unflatten(2, (count, size)).transpose(1, 2)


def across(
    d: CoefficientDynamics, values: Tensor, state: Tensor, before: Tensor | None, *, transposed: bool
) -> tuple[list[Tensor], Tensor]:
    """The numerators of one block of tokens, each of its pieces ``arranged``, and the state at its other end.

    values: (batch, heads, time, m), state: (batch, heads, dim, m) wide. transposed: from the last token to the first.
    """
    dtype = torch.promote_types(d.dtype, values.dtype)
    outputs, parts = [], list(pieces(d))
    for lo, size, count in parts[::-1] if transposed else parts:
        w = windows(d, lo, size, count, segment_before(d, lo) if lo else before)
        v = arranged(values, lo, size, count).to(dtype).contiguous()
        intra, emit, inject = (x.to(dtype) for x in (w.intra, w.emit, w.inject))
        if transposed:
            intra, emit, inject = intra.mT, inject, emit
        left, entered = (inject.mT @ v).expand(-1, count, -1, -1, -1).unbind(1), []
        order = range(count)[::-1] if transposed else range(count)
        for k in order:
            entered.append(state.to(dtype))
            carried = w.carries[k].backward(state.mT).mT if transposed else w.carries[k].forward(state)
            state = carried + left[k]
        entered = torch.stack(entered[::-1] if transposed else entered, 1)
        outputs.append(d.readout((emit @ entered).add_(intra @ v)))
    return outputs[::-1] if transposed else outputs, state


def spans(d: CoefficientDynamics, width: int) -> list[tuple[int, int]]:
    """Blocks of whole chunks whose largest temporary stays small, for values of ``width`` numbers."""
    step = d.evolution.chunk * max(1, BLOCK // chunk_bytes(d, width))
    return [(lo, min(lo + step, d.time)) for lo in range(0, d.time, step)]


def chunk_bytes(d: CoefficientDynamics, width: int) -> int:
    """The largest temporary of one chunk, in the float64 (complex128) that factors are formed in."""
    c = d.evolution.chunk
    largest = max(2 * c * d.dim, 2 * c * c, c * width, d.dim * width)
    return d.batch * d.heads * largest * torch.promote_types(d.dtype, torch.float64).itemsize


def part(d: CoefficientDynamics, lo: int, hi: int) -> CoefficientDynamics:
    """The tokens lo <= t < hi."""
    return d if (lo, hi) == (0, d.time) else d.select_tokens(lo, hi)


def sweep(
    d: CoefficientDynamics, values: Tensor, state: Tensor, *, transposed: bool, borders: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """All blocks one after the other; ``borders`` is told the state that enters each. Arguments as in ``across``."""
    batch, heads, order = state.shape[0], d.heads, spans(d, values.shape[-1])
    dtype = torch.promote_types(d.coefficient_dtype, values.dtype)
    out = torch.empty(batch, d.time, heads, values.shape[-1], dtype=dtype, device=values.device).transpose(1, 2)
    for lo, hi in order[::-1] if transposed else order:
        if borders is not None:
            borders.append(state)
        block, before = part(d, lo, hi), segment_before(d, lo)
        outputs, state = across(block, values[:, :, lo:hi], state, before, transposed=transposed)
        for piece, y in zip(pieces(block), outputs, strict=True):
            arranged(out[:, :, lo:hi], *piece).copy_(y)
    return out, state
