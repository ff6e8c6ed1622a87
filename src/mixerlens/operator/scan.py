"""Linear readouts: the state recurrence, chunk by chunk, in time and memory linear in the length.

S = A S + b k v^T is carried from chunk to chunk by the evolution's factors; inside a chunk the scores are a small
matrix. The transpose is the same scan run backwards with emit and inject exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Factors
from mixerlens.readout import RealPart
from mixerlens.shapes import wide


@dataclass(frozen=True)
class Chunk:
    """One chunk's factors with the segment borders in: what does not cross a border is zero."""

    lo: int
    hi: int
    factors: Factors
    carries: Tensor | None  # (batch, 1, 1, 1), 0 where the state dies in this chunk

    def carry(self, state: Tensor) -> Tensor:
        state = self.factors.carry.forward(state)
        return state if self.carries is None else state * self.carries

    def carry_back(self, rows: Tensor) -> Tensor:
        rows = self.factors.carry.backward(rows)
        return rows if self.carries is None else rows * self.carries


def chunk(dynamics: CoefficientDynamics, lo: int, hi: int) -> Chunk:
    """The factors of tokens lo <= t < hi. The state that enters belongs to the segment of token lo - 1."""
    f = dynamics.factors(lo, hi)
    if dynamics.support.segments is None:
        return Chunk(lo, hi, f, None)
    segments = dynamics.support.segments.to(dynamics.device)
    here, before = segments[:, lo:hi], segments[:, max(lo - 1, 0)]
    after = here[:, -1]
    real = here >= 0
    same = (here[:, :, None] == here[:, None, :]) & real[:, :, None]
    enters = ((here == before[:, None]) & real)[:, None, :, None]
    stays = ((here == after[:, None]) & real)[:, None, :, None]
    through = ((before == after) & (after >= 0))[:, None, None, None]
    masked = Factors(f.intra * same[:, None], f.emit * enters, f.inject * stays, f.carry)
    return Chunk(lo, hi, masked, through)


def chunks(dynamics: CoefficientDynamics, lo: int = 0, hi: int | None = None) -> Iterator[Chunk]:
    """Chunks that tile lo <= t < hi, in order."""
    size, end = dynamics.evolution.chunk, dynamics.time if hi is None else hi
    for start in range(lo, end, size):
        yield chunk(dynamics, start, min(start + size, end))


def numerators(dynamics: CoefficientDynamics, values: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """sum_j phi(score_ij) v_j before eta, and the final state.

    values: (batch, heads, time, m) tiles; state: (batch, heads, dim, m) or None for zero.
    Returns (batch, heads, time, m) and (batch, heads, dim, m). The readout, being linear, is applied to a row's
    finished sum; Re(score) * value is no such sum for complex values, so these go by real and imaginary parts.
    """
    if isinstance(dynamics.readout, RealPart) and values.is_complex():
        real, state_real = numerators(dynamics, values.real, state)
        imag, state_imag = numerators(dynamics, values.imag)
        return torch.complex(real, imag), state_real + 1j * state_imag
    dtype = torch.promote_types(dynamics.dtype, values.dtype)
    if state is None:
        state = _no_state(dynamics, values, values.shape[-1])
    elif state.is_complex() and not dtype.is_complex:
        raise InputError("a complex state does not fit a real mixer: its imaginary part would be lost")
    state, values, outputs = wide(state.to(dtype)), values.to(dtype), []
    for c in chunks(dynamics):
        v, f = values[:, :, c.lo : c.hi], c.factors
        outputs.append(dynamics.readout(f.intra.to(dtype) @ v + f.emit.to(dtype) @ state.to(dtype)))
        state = c.carry(state) + f.inject.to(dtype).mT @ v
    return torch.cat(outputs, -2), state.to(dtype)


def transposed_numerators(dynamics: CoefficientDynamics, cotangents: Tensor) -> Tensor:
    """sum_i phi(score_ij) w_i, the plain transpose (never conjugated): tiles (batch, heads, time, m) to the same."""
    if isinstance(dynamics.readout, RealPart) and cotangents.is_complex():
        parts = (transposed_numerators(dynamics, part) for part in (cotangents.real, cotangents.imag))
        return torch.complex(*parts)
    dtype = torch.promote_types(dynamics.dtype, cotangents.dtype)
    rows = _no_state(dynamics, cotangents, cotangents.shape[-1]).mT
    cotangents, outputs = cotangents.to(dtype), []
    starts = list(range(0, dynamics.time, dynamics.evolution.chunk))
    for lo in reversed(starts):
        c = chunk(dynamics, lo, min(lo + dynamics.evolution.chunk, dynamics.time))
        w, f = cotangents[:, :, c.lo : c.hi], c.factors
        outputs.append(dynamics.readout(f.intra.to(dtype).mT @ w + f.inject.to(dtype) @ rows.mT.to(dtype)))
        rows = c.carry_back(rows) + w.mT @ f.emit.to(dtype)
    return torch.cat(outputs[::-1], -2)


def state_after(dynamics: CoefficientDynamics, values: Tensor, t: int) -> Tensor:
    """S_t = sum_{j <= t} u_{t,j} v_j^T: (batch, heads, dim, m) for value tiles (batch, heads, time, m)."""
    dtype = torch.promote_types(dynamics.dtype, values.dtype)
    state = _no_state(dynamics, values, values.shape[-1])
    for c in chunks(dynamics, 0, t + 1):
        state = c.carry(state) + c.factors.inject.to(dtype).mT @ values[:, :, c.lo : c.hi].to(dtype)
    return state.to(dtype)


def _no_state(dynamics: CoefficientDynamics, values: Tensor, width: int) -> Tensor:
    """Zeros (batch, heads, dim, width) in float64 (complex128): what travels from chunk to chunk is never rounded to
    float32, or the rounding of the carries, the same in every chunk, would grow with the length."""
    dtype = torch.promote_types(torch.promote_types(dynamics.dtype, values.dtype), torch.float64)
    batch = max(dynamics.batch, values.shape[0])
    return torch.zeros(batch, dynamics.heads, dynamics.dim, width, dtype=dtype, device=values.device)


def halves(dynamics: CoefficientDynamics, cut: int) -> tuple[Tensor, Tensor]:
    """emit, inject with score[cut:, :cut] = emit @ inject^T: the state at the cut, read and written.

    emit (batch | 1, heads, time - cut, dim), inject (batch | 1, heads, cut, dim).
    """
    shape, n = (dynamics.batch, dynamics.heads), dynamics.dim
    kind = torch.promote_types(dynamics.dtype, torch.float64)
    identity = torch.eye(n, dtype=kind, device=dynamics.device).expand(*shape, n, n)
    across, inject = identity, []  # the product of the carries between a chunk and the cut, as a matrix
    for c in reversed(list(chunks(dynamics, 0, cut))):
        inject.append((wide(c.factors.inject) @ across.mT).expand(*shape, -1, -1))
        across = c.carry_back(across)
    across, emit = identity, []
    for c in chunks(dynamics, cut):
        emit.append((wide(c.factors.emit) @ across).expand(*shape, -1, -1))
        across = c.carry(across)
    return torch.cat(emit, -2).to(dynamics.dtype), torch.cat(inject[::-1], -2).to(dynamics.dtype)
