"""Many waves through one S4D layer at once, chunk by chunk: each wave is a state that the layer carries on.

    y_{t0+i} = sum_{j <= i} k_{i-j} u_{t0+j} + D u_{t0+i} + 2 Re sum_n w_n a_n^i s_n        a = exp(dt A)
    s <- a^chunk s + sum_j a^(chunk-j) u_{t0+j}

The same system as the layer's convolution, sampled by its zero-order hold with w = C (a - 1) / A B. A wave costs
matrix products of 2 (chunk + 4 modes) flops a number, and no memory that grows with time: cheaper than an FFT a wave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ..shapes import wide

if TYPE_CHECKING:
    from ..models.s4d_layer import S4D

__all__ = ["CHUNK", "CarriedSystem"]

CHUNK = 64  # time steps


class CarriedSystem:
    """An S4D layer that takes (features, chunk, waves) a call and remembers; the last chunk may be shorter.

    waves: the most there will be. A call may bring fewer; those it brings later start from rest.
    """

    def __init__(self, system: S4D, waves: int) -> None:
        from ..families.ssm import held

        family = {name: wide(tensor.detach()) for name, tensor in system.parameters_for_family().items()}
        z = family["A"] * family["dt"][:, None]
        weight = 2 * family["C"] * held(family["A"], family["dt"]) * family["B"]
        powers = _powers(z, CHUNK)
        emit = weight[..., None] * powers[..., :CHUNK]
        # complex products as real ones: Re(w s) = [Re w, -Im w] . [Re s, Im s]
        self._emit = torch.cat([emit.real, -emit.imag], 1).mT.contiguous()  # (features, chunk, 2 modes)
        left = powers[..., 1:].flip(-1)
        self._inject = torch.cat([left.real, left.imag], 1)  # (features, 2 modes, chunk)
        self._carry = powers[..., -1:]
        kernel = emit.real.sum(1)
        kernel[:, 0] += system.D.detach()
        step = torch.arange(CHUNK, device=z.device)
        lag = step[:, None] - step
        self._intra = torch.where(lag < 0, 0, kernel[:, lag.clamp(min=0)])  # (features, chunk, chunk)
        self._state = kernel.new_zeros(len(z), 2 * z.shape[1], waves)

    def __call__(self, u: Float[Tensor, "features time waves"]) -> Float[Tensor, "features time waves"]:
        time, waves = u.shape[1:]
        state = self._state[..., :waves]
        y = torch.bmm(self._intra[:, :time, :time], u).baddbmm_(self._emit[:, :time], state)
        if time == CHUNK:
            re, im = state.chunk(2, 1)
            a, b = self._carry.real, self._carry.imag
            state.copy_(torch.cat([a * re - b * im, a * im + b * re], 1).baddbmm_(self._inject, u))
        return y


def _powers(z: Tensor, most: int) -> Tensor:
    """exp(z l) for l = 0 .. most: from its own magnitude and phase each, so that no error is multiplied up."""
    lag = torch.arange(most + 1, device=z.device)
    size, phase = torch.exp(z.real[..., None] * lag), z.imag[..., None] * lag
    return torch.complex(size * torch.cos(phase), size * torch.sin(phase))
