"""The readout maps phi: alpha_ij = phi(q_i^T u_ij) / eta_i.

Two facts about a readout decide which algorithms apply. ``linear``: phi is linear over the reals, so a state of fixed
size carries the past. ``log``: phi = exp(log(z)), so a row can be normalised without overflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError


@dataclass(frozen=True)
class Readout:
    """Base: one function of the scores z, elementwise, same shape."""

    linear: ClassVar[bool] = False
    exponential: ClassVar[bool] = False
    needs_real: ClassVar[bool] = False

    @property
    def finite_state(self) -> bool:
        """Whether a causal recurrence of fixed size exists (for polynomials after lifting)."""
        return self.linear

    def __call__(self, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def log(self, scores: Tensor) -> Tensor:
        """The logarithm of phi, for exponential readouts."""
        raise NotImplementedError


@dataclass(frozen=True)
class Identity(Readout):
    """phi(z) = z."""

    linear: ClassVar[bool] = True

    def __call__(self, scores: Tensor) -> Tensor:
        return scores


@dataclass(frozen=True)
class RealPart(Readout):
    """phi(z) = scale * Re z: conjugate pairs of modes read out with scale 2 (S4D)."""

    scale: float = 1.0
    linear: ClassVar[bool] = True

    def __call__(self, scores: Tensor) -> Tensor:
        return self.scale * (scores.real if scores.is_complex() else scores)


@dataclass(frozen=True)
class Exp(Readout):
    """phi(z) = exp(z): softmax attention, with the row sum as normaliser."""

    exponential: ClassVar[bool] = True

    def __call__(self, scores: Tensor) -> Tensor:
        return torch.exp(scores)

    def log(self, scores: Tensor) -> Tensor:
        return scores


@dataclass(frozen=True)
class Softcap(Readout):
    """phi(z) = exp(cap * tanh(z / cap)): softmax over soft-capped scores (Gemma 2)."""

    cap: float
    exponential: ClassVar[bool] = True
    needs_real: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.cap > 0:
            raise InputError(f"softcap must be positive, got {self.cap}")

    def __call__(self, scores: Tensor) -> Tensor:
        return torch.exp(self.log(scores))

    def log(self, scores: Tensor) -> Tensor:
        return self.cap * torch.tanh(scores / self.cap)


@dataclass(frozen=True)
class Relu(Readout):
    """phi(z) = max(z, 0)."""

    needs_real: ClassVar[bool] = True

    def __call__(self, scores: Tensor) -> Tensor:
        return torch.relu(scores)


@dataclass(frozen=True)
class Sigmoid(Readout):
    """phi(z) = 1 / (1 + exp(-(z - bias))); sigmoid attention uses bias = log T."""

    bias: float = 0.0
    needs_real: ClassVar[bool] = True

    def __call__(self, scores: Tensor) -> Tensor:
        return torch.sigmoid(scores - self.bias)


@dataclass(frozen=True)
class Polynomial(Readout):
    """phi(z) = sum_e coefficients[e] z^e. Finite state only after lifting (symmetric powers)."""

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients", tuple(float(c) for c in self.coefficients))
        if not self.coefficients:
            raise InputError("a polynomial readout needs at least one coefficient, constant term first")

    @property
    def finite_state(self) -> bool:
        return True

    def __call__(self, scores: Tensor) -> Tensor:
        value = torch.full_like(scores, self.coefficients[-1])
        for c in reversed(self.coefficients[:-1]):
            value = value * scores + c
        return value
