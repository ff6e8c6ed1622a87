"""Time-invariant mixers: alpha depends on the lag only, so alpha @ v is a convolution, by FFT in O(L log L)."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.shapes import at, spread, wide


def kernel(dynamics: CoefficientDynamics) -> Tensor:
    """alpha_{i, i-l} for lags l < time: (batch, heads, time)."""
    d = dynamics
    query, key = (at(x, 0).to(d.dtype) for x in (d.query, d.key))
    query, key = spread(query, d.heads), spread(key, d.heads)
    if d.scaling is not None:
        key = key * at(d.scaling, 0).to(d.dtype).unsqueeze(-1)
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
        state = wide(first.inject[..., :1, :].mT)
        for lo in range(size, d.time, size):
            parts.append((later.emit[..., : d.time - lo, :] @ state.to(d.dtype))[..., 0])
            state = later.carry.forward(state)
    return torch.cat([p.expand(d.batch, d.heads, -1) for p in parts], -1)


def convolve(kernel: Tensor, values: Tensor) -> Tensor:
    """Causal convolution: kernel (batch, heads, time), values (batch, heads, time, m) -> the shape of values."""
    time = values.shape[-2]
    size = 2 * time
    if not kernel.is_complex() and not values.is_complex():
        product = torch.fft.rfft(kernel, size)[..., None] * torch.fft.rfft(values, size, dim=-2)
        return torch.fft.irfft(product, size, dim=-2)[..., :time, :]
    product = torch.fft.fft(kernel, size)[..., None] * torch.fft.fft(values, size, dim=-2)
    return torch.fft.ifft(product, size, dim=-2)[..., :time, :]


def correlate(kernel: Tensor, cotangents: Tensor) -> Tensor:
    """The transpose of ``convolve``: the same, with time reversed on both sides."""
    return convolve(kernel, cotangents.flip(-2)).flip(-2)
