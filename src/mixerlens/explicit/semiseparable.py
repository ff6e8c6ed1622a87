"""All pairs with any weights in time, as L N generators: the Gram matrix of a diagonal system is semiseparable.

    G_ij = sum_t q_t T_ti T_tj,      T_ti = Re sum_n c_n lambda_n^(t - i) + D [t = i]       one feature
    i < j:  G_ij = Re sum_n lambda_n^(j - i) g_n(j),   g_n(j) = c_n sum_{t >= j} q_t T_tj lambda_n^(t - j)

An earlier wave, when a later one starts, is N numbers that decay on their own: so the pair is N numbers of the later
one, seen through that decay. The generators g are one transposed convolution a mode, the diagonal is another with
T^2, and no matrix is needed for an entry. (G u needs no pairs at all: it is T^T (q * T u), two convolutions.) With
q_t = W curvature(y_t) these are the exact pairs of the whole decoder, every input a wave (pair form).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float, Float64, Int
from torch import Tensor

from ..errors import InputError
from ..operator.toeplitz import correlate

__all__ = ["PairGenerators", "pair_generators"]


@dataclass(frozen=True, eq=False)
class PairGenerators:
    """log (modes,): of lambda. generators (modes, time): g. diagonal (time,): G_jj. O(time modes) numbers in all."""

    log: Complex128[Tensor, " modes"]
    generators: Complex128[Tensor, "modes time"]
    diagonal: Float64[Tensor, " time"]

    def entries(self, i: Int[Tensor, "*shape"], j: Int[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """G_ij for index tensors that broadcast; O(modes) an entry.

        Raises InputError for inputs that are not there.
        """
        i, j = torch.broadcast_tensors(i, j)
        for index in (i, j):
            if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < len(self.diagonal):
                raise InputError(
                    f"entries {int(index.min())} .. {int(index.max())}: the inputs are 0 .. {len(self.diagonal) - 1}"
                )
        later, lag = torch.maximum(i, j), (i - j).abs()
        decay = torch.exp(self.log.reshape(-1, *[1] * lag.ndim) * lag)
        return torch.where(lag == 0, self.diagonal[later], (decay * self.generators[:, later]).real.sum(0))

    def row(self, i: int) -> Float64[Tensor, " time"]:
        """G_i: all partners of input i."""
        every = torch.arange(len(self.diagonal))
        return self.entries(every.new_tensor(i), every)


@torch.no_grad()
def pair_generators(
    weight: Complex128[Tensor, " modes"],
    log: Complex128[Tensor, " modes"],
    skip: float,
    gains: Float[Tensor, " time"],
) -> PairGenerators:
    """The generators of one feature whose kernel is k_l = Re sum_n weight_n exp(log_n l), with D = ``skip``.

    gains (time,): q. For S4D weight = 2 C (exp(dt A) - 1) / A B and log = dt A. Raises InputError for other shapes,
    numbers that are not finite, and a system that grows.
    """
    if weight.ndim != 1 or weight.shape != log.shape or gains.ndim != 1 or not len(gains):
        shapes = f"{tuple(weight.shape)}, {tuple(log.shape)}, {tuple(gains.shape)}"
        raise InputError(f"weight and log must be (modes,) and gains (time,), not {shapes}")
    if not bool((log.real <= 0).all() and log.isfinite().all()):
        raise InputError(f"log must be finite with Re log <= 0, its largest real part is {float(log.real.max()):.3g}")
    if not bool(weight.isfinite().all() and gains.isfinite().all() and math.isfinite(skip)):
        raise InputError("weight, skip or gains hold NaN or infinite numbers")
    weight, log, gains = weight.to(torch.complex128), log.to(torch.complex128), gains.to(torch.float64)
    modes = weight[:, None] * torch.exp(log[:, None] * torch.arange(len(gains)))
    wave = modes.real.sum(0)  # T_tj by its lag t - j
    wave[0] += skip
    seen = torch.cat([(wave * wave)[None], wave * modes.real, wave * modes.imag])
    out = correlate(seen[None], gains[None, None, :, None].expand(1, len(seen), -1, 1))[0, ..., 0]
    real, imaginary = out[1:].chunk(2)
    return PairGenerators(log, torch.complex(real, imaginary), out[0])
