"""Readouts that are tried: undo phi, and see whether the scores that are left have a state of fixed size.

alpha_ij = phi(z_ij) / eta_i with scores z_ij = q_i^T A_i ... A_{j+1} k_j b_j exists, with n numbers of state, if and
only if every block of z across a cut t has rank at most n. An exponential's eta is a constant added to a row of
scores, which costs one rank; the other maps are undone for eta = 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SATURATED = 1e-5  # a sigmoid nearer to 1 than this no longer says what its score was


def _exp(alpha: Tensor) -> tuple[Tensor, Tensor]:
    return torch.log(alpha), alpha > 0


def _sigmoid(alpha: Tensor) -> tuple[Tensor, Tensor]:
    return torch.log(alpha) - torch.log1p(-alpha), (alpha > 0) & (alpha < 1 - SATURATED)


def _softplus(alpha: Tensor) -> tuple[Tensor, Tensor]:
    return alpha + torch.log(-torch.expm1(-alpha)), alpha > 0


INVERSES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "exp": _exp,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
}
HALVES: dict[str, int] = {"relu": 1, "relu squared": 2}  # phi(z) = max(z, 0)^p


def scores(name: str, alpha: Tensor | None, mirrored: Callable[[], Tensor | None]) -> tuple[Tensor, Tensor] | None:
    """The scores under this readout and where they are valid (time, time); None if it cannot be this readout.

    alpha: (systems, time, time). mirrored: gives the same with every query negated, which tells a relu's scores
    where it is zero: phi(z) - phi(-z) = z.
    """
    if alpha is None or alpha.is_complex():
        return None
    if name in INVERSES:
        z, valid = INVERSES[name](alpha)
        return torch.where(valid, z, 0.0), valid.all(0)
    if bool((alpha < 0).any()):
        return None
    other = mirrored()
    if (
        other is None
        or not bool((other > 0).any())
        or bool((other < 0).any())
        or bool((torch.minimum(alpha, other) > 0).any())
    ):
        return None
    power = 1 / HALVES[name]
    z = alpha**power - other**power
    return z, (z != 0).all(0)
