"""The pointwise nonlinearities of a decoder, written so that nothing is truncated.

    f(y) = linear * y + curvature(y) * y^2        curvature even and bounded
    f(y) = gate(y) * y                            gate(y) = linear + curvature(y) * y

The first line is the pair form of EXPLICIT: a wave of size a beside one of size b adds 2 ab curvature(y) to f, so the
second term is the exact interaction of every two waves. The second is the gate form, linear once the gate is held.
Derivations: GELU(y) = y Phi(y) with Phi(y) = 1/2 + erf(y / sqrt 2) / 2, and SiLU(y) = y sigmoid(y) with sigmoid(y) =
1/2 + tanh(y / 2) / 2; in both the odd half of the gate, divided by y, is the curvature. So sigmoid(v) = 1/2 +
v curvature(v) with SiLU's curvature tanh(v / 2) / (2 v) <= 1/4: a GLU, too, is bilinear with a bounded gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.errors import InputError

__all__ = ["ACTIVATIONS", "Activation", "activation"]

Pointwise = Callable[[Tensor], Tensor]
_NEAR = 0.25  # to zero: below, the derivative of a quotient loses more than 1e-14 to cancellation
_TERMS = 9  # (0.25 / 2.83)^18 is below 1e-18, and 2.83 is the least radius of convergence


@dataclass(frozen=True)
class Activation:
    """f, its slope at zero, and the odd half of its gate.

    name: as a configuration says it. function: f itself, as torch computes it. linear: f'(0). odd_gate: gate - linear,
    an odd function. bound: the largest curvature, its limit at zero.
    """

    name: str
    function: Pointwise = field(repr=False)
    linear: float
    odd_gate: Pointwise = field(repr=False)
    bound: float

    def __call__(self, y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.function(y)

    def gate(self, y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """f(y) / y, continued to y = 0."""
        return self.linear + self.odd_gate(y)

    def curvature(self, y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """(f(y) - linear y) / y^2, even, continued to y = 0; by its Taylor series near it, the gradient's sake."""
        near = y.abs() < _NEAR
        far, square = torch.where(near, 1, y), torch.where(near, y, 0) ** 2
        series = torch.zeros_like(y)
        for a in _even_orders(self.name):
            series = a + square * series
        return torch.where(near, series, self.odd_gate(far) / far)


@lru_cache
def _even_orders(name: str) -> tuple[float, ...]:
    """Taylor coefficients of the curvature in y^2, the highest first."""
    from .series import taylor  # which evaluates the functions below

    return tuple(reversed(taylor(name, 2 * _TERMS)[2::2].tolist()))


def _tanh_gate(y: Tensor) -> Tensor:
    return torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)) / 2


ACTIVATIONS = {
    found.name: found
    for found in (
        # torch.nn.GELU() is the erf form; the tanh form is another function, not a way of computing the first
        Activation(
            "gelu",
            torch.nn.functional.gelu,
            0.5,
            lambda y: torch.erf(y / math.sqrt(2)) / 2,
            1 / math.sqrt(2 * math.pi),
        ),
        Activation(
            "gelu_tanh",
            lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
            0.5,
            _tanh_gate,
            1 / math.sqrt(2 * math.pi),
        ),
        Activation("silu", torch.nn.functional.silu, 0.5, lambda y: torch.tanh(y / 2) / 2, 0.25),
        Activation("identity", lambda y: y, 1.0, torch.zeros_like, 0.0),
    )
}


def activation(name: str) -> Activation:
    """The activation of that name. Raises InputError, with the names there are, for any other."""
    if name not in ACTIVATIONS:
        raise InputError(f"{name!r} is no activation with an explicit form; choose from {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
