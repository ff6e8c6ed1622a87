"""The S4D layer: one diagonal complex system a feature, run as a convolution.

    x' = A x + B u,   y = 2 Re(C x) + D u        sampled by a zero-order hold of step dt:
    x_t = exp(dt A) x_{t-1} + (exp(dt A) - 1) / A B u_t

Source: Gu, Gupta, Goel and Re, arXiv 2206.11893.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from ..evolution.power_sums import power_sums
from ..families.ssm import held
from ..operator.toeplitz import convolve
from ..shapes import wide


class S4D(nn.Module):
    """Maps u (batch, time, features) to y of the same shape, each feature by its own system.

    features: number of systems. modes: complex modes of each, half of its real state.
    explicit_b: B is a parameter; without it B = 1, which loses nothing, since only the product B C enters.
    step_range: initial steps are log-uniform in it, in units of A's time (S4D-Lin's slowest wave has period 2).

    Parameters, all real so that float32 and float64 folders need no complex type: log_dt (features), log_decay and
    frequency (features, modes) with A = -exp(log_decay) + i frequency, hence Re A < 0; C and B (features, modes, 2)
    as real and imaginary parts, C unconjugated; D (features).
    """

    def __init__(
        self, features: int, modes: int, *, explicit_b: bool = False, step_range: tuple[float, float] = (1e-3, 1e-1)
    ) -> None:
        super().__init__()
        low, high = (math.log(bound) for bound in step_range)
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(features))
        # S4D-Lin: A_n = -1/2 + i pi n
        self.log_decay = nn.Parameter(torch.full((features, modes), math.log(0.5)))
        waves = math.pi * torch.arange(modes, dtype=torch.get_default_dtype())
        self.frequency = nn.Parameter(waves.repeat(features, 1))
        self.C = nn.Parameter(torch.randn(features, modes, 2) * math.sqrt(0.5))
        self.B = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(features, modes, 1)) if explicit_b else None
        self.D = nn.Parameter(torch.randn(features))

    def parameters_for_family(self) -> dict[str, Tensor]:
        """A, B, C complex (features, modes) and dt (features), as `families.s4d` takes them; D is not among them.

        They are the values the layer itself uses, rounded to the parameters' dtype, so that both form the same phases.
        """
        A = torch.complex(-torch.exp(self.log_decay), self.frequency)
        B = torch.ones_like(A) if self.B is None else torch.view_as_complex(self.B.contiguous())
        return {"A": A, "B": B, "C": torch.view_as_complex(self.C.contiguous()), "dt": torch.exp(self.log_dt)}

    def kernel(self, length: int) -> Float[Tensor, "features length"]:
        """k_l = 2 Re sum_n C_n (exp(dt A_n) - 1) / A_n B_n exp(dt A_n l), phases and weights in complex128."""
        family = {name: wide(tensor) for name, tensor in self.parameters_for_family().items()}
        z = family["A"] * family["dt"][:, None]
        weight = 2 * family["C"] * held(family["A"], family["dt"]) * family["B"]
        return power_sums(weight, length, log=z, dtype=self.D.dtype, real=True)

    def forward(self, u: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch time features"]:
        """y = k * u + D u. Raises InputError unless u is (batch, time, features) with at least one time step."""
        if u.ndim != 3 or u.shape[2] != self.D.shape[0] or u.shape[1] == 0:
            raise InputError(f"S4D takes (batch, time >= 1, {self.D.shape[0]} features), not {tuple(u.shape)}")
        return causal_convolution(self.kernel(u.shape[1]), u) + self.D * u


def causal_convolution(
    kernel: Float[Tensor, "features time"], u: Float[Tensor, "batch time features"]
) -> Float[Tensor, "batch time features"]:
    """y_t = sum_{j <= t} kernel_{t-j} u_j, by an FFT long enough that nothing wraps around."""
    return convolve(kernel[None], u.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
