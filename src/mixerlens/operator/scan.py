"""Linear readouts: alpha @ v, its transpose and the state, in time and memory linear in the length."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.operator import blocks, recompute, steps
from mixerlens.operator.memory import TEMPORARY
from mixerlens.readout import RealPart
from mixerlens.shapes import wide


def numerators(
    d: CoefficientDynamics, values: Tensor, state: Tensor | None = None, *, transposed: bool = False
) -> tuple[Tensor, Tensor]:
    """sum_j phi(score_ij) v_j before eta, and the final state; transposed: sum_i phi(score_ij) w_i, never conjugated.

    values: (batch, heads, time, m) tiles; state: (batch, heads, dim, m) or None for zero.
    Returns (batch, heads, time, m) and (batch, heads, dim, m). The readout, being linear, is applied to a row's
    finished sum; Re(score) * value is no such sum for complex values, so these go by real and imaginary parts.
    Differentiable once.
    """
    if isinstance(d.readout, RealPart) and values.is_complex():
        real, state_real = numerators(d, values.real, state, transposed=transposed)
        imag, state_imag = numerators(d, values.imag, transposed=transposed)
        return torch.complex(real, imag), state_real + 1j * state_imag
    dtype = torch.promote_types(d.dtype, values.dtype)
    if state is not None and state.is_complex() and not dtype.is_complex:
        raise InputError("a complex state does not fit a real mixer: its imaginary part would be lost")
    state = _no_state(d, values) if state is None else wide(state.to(dtype))
    outputs: list[tuple[Tensor, Tensor]] = []
    for group in _head_groups(d, values.shape[-1]):
        v, s = (x if x.shape[1] == 1 else x[:, group.start : group.stop] for x in (values, state))
        part = d.select_heads(group)
        if recompute.wanted(part, v, s):
            run = recompute.sweep
        else:
            run = steps.sweep if steps.cheaper(part, v) else blocks.sweep
        outputs.append(run(part, v, s, transposed=transposed))
    y, state = outputs[0] if len(outputs) == 1 else (torch.cat(parts, 1) for parts in zip(*outputs, strict=True))
    return y, state.to(dtype)


def _head_groups(d: CoefficientDynamics, width: int) -> Iterator[range]:
    """Heads in groups of which one chunk fits."""
    size = max(1, TEMPORARY * d.heads // blocks.chunk_bytes(d, width))
    for start in range(0, d.heads, size):
        yield range(start, min(start + size, d.heads))


def _no_state(d: CoefficientDynamics, values: Tensor) -> Tensor:
    """Zeros (batch, heads, dim, m) in float64 (complex128): what travels from chunk to chunk is never rounded to
    float32, or the rounding of the carries, the same in every chunk, would grow with the length."""
    dtype = torch.promote_types(torch.promote_types(d.dtype, values.dtype), torch.float64)
    batch = max(d.batch, values.shape[0])
    return torch.zeros(batch, d.heads, d.dim, values.shape[-1], dtype=dtype, device=values.device)


def state_after(d: CoefficientDynamics, values: Tensor, t: int) -> Tensor:
    """S_t = sum_{j <= t} u_{t,j} v_j^T: (batch, heads, dim, m) for value tiles (batch, heads, time, m)."""
    return numerators(blocks.part(d, 0, t + 1), values[:, :, : t + 1])[1]


def halves(d: CoefficientDynamics, cut: int) -> tuple[Tensor, Tensor]:
    """emit, inject with score[cut:, :cut] = emit @ inject^T: the state at the cut, read and written.

    emit (batch, heads, time - cut, dim), inject (batch, heads, cut, dim).
    """
    kind = torch.promote_types(d.dtype, torch.float64)
    shape = (d.batch, d.heads, d.dim, d.dim)
    # the product of the carries between a chunk and the cut, as a matrix
    product = torch.eye(d.dim, dtype=kind, device=d.device).expand(shape)
    inject = []
    for w in reversed(list(_windows(d, 0, cut))):
        for own, carry in reversed(list(zip(_each(w.inject, w), w.carries, strict=True))):
            inject.append((wide(own) @ product.mT).expand(*shape[:2], -1, -1))
            product = carry.backward(product)
    product = torch.eye(d.dim, dtype=kind, device=d.device).expand(shape)
    emit = []
    for w in _windows(d, cut, d.time):
        for own, carry in zip(_each(w.emit, w), w.carries, strict=True):
            emit.append((wide(own) @ product).expand(*shape[:2], -1, -1))
            product = carry.forward(product)
    return torch.cat(emit, -2).to(d.dtype), torch.cat(inject[::-1], -2).to(d.dtype)


def _each(x: Tensor, w: blocks.Windows) -> tuple[Tensor, ...]:
    """Generators chunk by chunk; where nothing changes in time all chunks have the same."""
    return x.expand(-1, len(w.carries), -1, -1, -1).unbind(1)


def _windows(d: CoefficientDynamics, start: int, stop: int) -> Iterator[blocks.Windows]:
    """The chunks of the tokens start <= t < stop, block by block."""
    d, first = blocks.part(d, start, stop), blocks.segment_before(d, start)
    for lo, hi in blocks.spans(d, d.dim):
        block = blocks.part(d, lo, hi)
        before = blocks.segment_before(d, lo) if lo else first
        for piece, size, count in blocks.pieces(block):
            yield blocks.windows(block, piece, size, count, blocks.segment_before(block, piece) if piece else before)
