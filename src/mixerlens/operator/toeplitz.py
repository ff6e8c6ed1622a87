"""Time-invariant mixers: alpha depends on the lag only, so alpha @ v is a convolution, by FFT in O(L log L)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal
from mixerlens.evolution.base import Carry
from mixerlens.once import differentiable_once
from mixerlens.operator.fourier import Fourier
from mixerlens.readout import RealPart
from mixerlens.shapes import at, spread, wide

_LARGEST = 1 << 24  # bytes of a matrix that carries many chunks at once


def kernel(dynamics: CoefficientDynamics) -> Tensor:
    """alpha_{i, i-l} for lags l < time: (batch, heads, time)."""
    d = dynamics
    query, key = (at(x, 0).to(d.dtype) for x in (d.query, d.key))
    query, key = spread(query, d.heads), spread(key, d.heads)
    if d.scaling is not None:
        key = key * at(d.scaling, 0).to(d.dtype).unsqueeze(-1)
    if not d.readout.linear:  # an exponential turns absolute errors of the scores into relative ones
        query, key = wide(query), wide(key)
    if isinstance(d.readout, RealPart) and isinstance(d.evolution, Diagonal):
        scores = d.evolution.kernel(query, key, d.time, real=True)
    else:
        scores = d.evolution.kernel(query, key, d.time)
    scores = _scanned(d) if scores is None else scores
    scores = d.readout(scores.expand(d.batch, d.heads, -1))
    if d.support.window is not None:
        scores = torch.where(torch.arange(d.time, device=scores.device) < d.support.window, scores, 0)
    target = d.dtype if scores.is_complex() else d.dtype.to_real()
    return scores.to(target)


def _scanned(d: CoefficientDynamics) -> Tensor:
    """The first column of scores by carrying the first impulse through the chunks."""
    size = min(d.evolution.chunk, d.time)
    first = d.factors(0, size)
    parts = [first.intra[..., 0]]
    if d.time > size:
        # every later chunk has the same factors; the first may differ, as nothing was there before token 0
        later = d.factors(size, min(2 * size, d.time))
        for states in _visited(wide(first.inject[..., :1, :].mT), later.carry, -(-d.time // size) - 1):
            parts.append((later.emit @ states.to(d.dtype)).mT.flatten(-2))
    return torch.cat([p.expand(d.batch, d.heads, -1) for p in parts], -1)[..., : d.time]


def _visited(state: Tensor, carry: Carry, count: int) -> Iterator[Tensor]:
    """state, carry(state), ..., ``count`` of them, as columns of blocks (batch, heads, dim, block).

    A block is stepped through once; the others are its images under the matrix of as many steps, 2 sqrt(count) steps
    in all. Where that matrix is large or overflows, the state itself is carried on.
    """
    dim = state.shape[-2]
    steps = math.isqrt(count)
    identity = torch.eye(dim, dtype=state.dtype, device=state.device)
    columns = [state]
    matrix = identity.expand(*carry.forward(state).shape[:-2], dim, dim)
    fits = matrix.numel() * matrix.element_size() <= _LARGEST
    for _ in range(steps - 1 if fits else 0):
        columns.append(carry.forward(columns[-1]))
        matrix = carry.forward(matrix)
    matrix = carry.forward(matrix)
    block = torch.cat([x.expand(*matrix.shape[:-2], -1, -1) for x in columns], -1)
    if not fits or not bool(torch.isfinite(matrix).all()):
        for _ in range(count):
            yield state
            state = carry.forward(state)
        return
    for lo in range(0, count, steps):
        yield block[..., : count - lo]
        block = matrix.to(block.dtype) @ block


def convolve(kernel: Tensor, values: Tensor) -> Tensor:
    """Causal convolution: kernel (batch | 1, heads | 1, time), values (batch | 1, heads | 1, time, m).

    (batch, heads, time, m), in memory (batch, time, heads, m). Differentiable once in both. Channels are transformed a
    few at a time, so that beside the result there are three tensors of 16 MiB, or of one channel, at most.
    """
    dtype = torch.promote_types(kernel.dtype, values.dtype)
    return _Convolution.apply(kernel.to(dtype), values.to(dtype), False)  # type: ignore[return-value]


def correlate(kernel: Tensor, cotangents: Tensor) -> Tensor:
    """The transpose of ``convolve``: out_j = sum_{i >= j} kernel_{i-j} cotangents_i."""
    dtype = torch.promote_types(kernel.dtype, cotangents.dtype)
    return _Convolution.apply(kernel.to(dtype).conj(), cotangents.to(dtype), True)  # type: ignore[return-value]


class _Convolution(torch.autograd.Function):
    """k * x, or its adjoint; on spectra K X or conj(K) X. They are made again in the backward pass, never kept."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, values: Tensor, adjoint: bool) -> Tensor:
        ctx.save_for_backward(kernel, values)
        ctx.adjoint = adjoint
        batch, heads = torch.broadcast_shapes(kernel.shape[:2], values.shape[:2])
        time, m = values.shape[2:]
        out = torch.empty(batch, time, heads, m, dtype=values.dtype, device=values.device).transpose(1, 2)
        fourier = Fourier(time, values.dtype)
        for part in fourier.parts(batch, heads, m):
            spectrum = fourier.spectrum(part(kernel[..., None]), adjoint)
            part(out).copy_(fourier.signal(_product(spectrum, fourier.spectrum(part(values)))))
        return out

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        """With G the cotangent's spectrum: d x is conj(K) G, d k is conj(X) G; of the adjoint K G and X conj(G)."""
        kernel, values = ctx.saved_tensors
        adjoint, needed = ctx.adjoint, ctx.needs_input_grad
        by_kernel = torch.zeros_like(kernel)[..., None] if needed[0] else None
        batch, heads, time, m = cotangent.shape
        shared = values.shape[:2] != (batch, heads)
        by_values = (torch.zeros_like if shared else torch.empty_like)(values) if needed[1] else None
        fourier = Fourier(time, cotangent.dtype)
        for part in fourier.parts(batch, heads, m):
            given = fourier.spectrum(part(cotangent))
            if by_kernel is not None:
                spectrum = fourier.spectrum(part(values), not adjoint)
                _put(part(by_kernel), fourier, _product(given.conj() if adjoint else given, spectrum), True)
            if by_values is not None:
                spectrum = fourier.spectrum(part(kernel[..., None]), not adjoint)
                _put(part(by_values), fourier, _product(spectrum, given), shared)
        return None if by_kernel is None else by_kernel[..., 0], by_values, None


def _product(left: Tensor, right: Tensor) -> Tensor:
    """The product of two spectra, into the right one where that has the product's shape."""
    whole = right.shape == torch.broadcast_shapes(left.shape, right.shape)
    return right.mul_(left) if whole else left * right


def _put(target: Tensor, fourier: Fourier, spectrum: Tensor, shared: bool) -> None:
    """The signal into target (batch | 1, heads | 1, time, m | 1); added up, over what shares it, where it is shared."""
    if not shared:
        target.copy_(fourier.signal(spectrum))
        return
    over = [axis for axis, other in ((0, 0), (1, 1), (2, 3)) if target.shape[other] < spectrum.shape[axis]]
    target.add_(fourier.signal(spectrum.sum(over, keepdim=True) if over else spectrum))
