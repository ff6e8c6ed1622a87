"""A_t = Diag(a_t) + left_t right_t^T: a gate a dimension and one exchange (Kimi Delta Attention, RWKV-7, S4's DPLR)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.base import Evolution, Factors
from mixerlens.evolution.correction import DiagonalChain, aligned, corrected
from mixerlens.evolution.diagonal import Diagonal
from mixerlens.shapes import spread, take_tokens, tile, wide

SLAB = 1 << 22  # numbers of the dense matrices whose eigenvalues are found at once


@dataclass(frozen=True, eq=False)
class DiagonalPlusRankOne(Evolution):
    """A_t = Diag(a_t) + left_t right_t^T, the plain transpose.

    left, right: (batch, time, heads | groups, dim), leading axes may be left out.
    log_decay or decay (batch, time, heads, dim | 1): a_t, 1 when both are left out; zeros, negative and complex values
        are legal, and log_decay -inf is a closed gate.

    Kimi Delta Attention has left = -beta k, right = a k; gated delta rules with an erase vector p have right = a p.
    A chunk is closed by one triangular solve (see ``correction``), formed in float64 and cast.
    """

    left: Tensor
    right: Tensor
    log_decay: Tensor | None = None
    decay: Tensor | None = None
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        self.settle(dict.fromkeys(("left", "right", "log_decay", "decay"), 1))
        if self.left.shape[-1] != self.right.shape[-1]:
            raise InputError(f"left has {self.left.shape[-1]} dimensions, right has {self.right.shape[-1]}")

    @cached_property
    def diagonal(self) -> Diagonal | None:
        """Diag(a_t); None where it is 1."""
        if self.log_decay is None and self.decay is None:
            return None
        return Diagonal(log_decay=self.log_decay, decay=self.decay)

    def step(self, state: Tensor, t: int) -> Tensor:
        heads = max(state.shape[1], self.left.shape[2], self.right.shape[2])
        left, right = (spread(tile(x, t, t + 1), heads).to(state.dtype) for x in (self.left, self.right))
        kept = state if self.diagonal is None else self.diagonal.step(state, t)
        return kept + left.mT @ (right @ state)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        one = torch.ones(1, 1, hi - lo, 1, dtype=torch.float64, device=query.device)
        a = one if self.diagonal is None else self.diagonal.factor(lo, hi)
        a, *vectors = aligned(a, query, key, tile(self.left, lo, hi), tile(self.right, lo, hi))
        return corrected(DiagonalChain(a), *vectors).to(query.dtype)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        parts = [x for x in (self.left, self.right, self.log_decay, self.decay) if x is not None]
        time = max(x.shape[1] for x in parts)
        start, stop, _ = slice(lo, hi).indices(time)
        batch, heads = (max(x.shape[axis] for x in parts) for axis in (0, 2))
        size = max(1, SLAB // (batch * heads * self.left.shape[-1] ** 2))
        values = [self._eigenvalues(t, min(t + size, stop)) for t in range(start, stop, size)] if time > 1 else []
        return torch.cat(values, 1) if values else self._eigenvalues(0, 1)

    def _eigenvalues(self, lo: int, hi: int) -> Tensor:
        left, right = (wide(take_tokens(x, lo, hi)) for x in (self.left, self.right))
        one = torch.ones(1, 1, 1, left.shape[-1], dtype=torch.float64, device=left.device)
        a = one if self.diagonal is None else self.diagonal.factor(lo, hi).transpose(1, 2)
        heads = max(left.shape[2], right.shape[2], a.shape[2])
        left, right = (spread(x, heads, 2) for x in (left, right))
        gates = torch.diag_embed(a.expand(*a.shape[:-1], left.shape[-1]))
        if not any(x.is_complex() for x in (left, right, a)):
            # the characteristic polynomial knows left and right by their products alone: where these are of one sign,
            # as they are for every delta rule, a symmetric matrix has the same eigenvalues and has them real
            weight = left * right
            sign = torch.where((weight >= 0).all(-1), 1, -1)[..., None]
            if bool((sign * weight >= 0).all()):
                nothing = weight == 0
                z = torch.where(nothing, 0, torch.where(nothing, 1, sign * weight).sqrt())  # sqrt has no slope at 0
                matrix = sign[..., None] * z[..., :, None] * z[..., None, :] + gates
                values = torch.linalg.eigvalsh(matrix)
                if weight.requires_grad and bool(nothing.any()):
                    slopes = torch.where(nothing[..., None, :], _slopes(matrix, a, z, sign), 0)
                    values = values + (slopes @ weight[..., None])[..., 0]  # the weights are 0 where there is a slope
                return values.to(torch.complex128)
        matrix = left[..., :, None] * right[..., None, :] + gates
        return torch.linalg.eigvals(matrix).to(torch.complex128)

    def check(self, dim: int) -> None:
        if self.left.shape[-1] != dim:
            raise InputError(f"left and right have {self.left.shape[-1]} dimensions, query and key have {dim}")
        if self.diagonal is not None:
            self.diagonal.check(dim)


@torch.no_grad()
def _slopes(matrix: Tensor, a: Tensor, z: Tensor, sign: Tensor) -> Tensor:
    """Derivatives of the eigenvalues of Diag(a) + sign z z^T by those products sign z_i^2 that are 0: (..., modes, n).

    A dimension i without a product stands alone. By the characteristic polynomial a mode v of another eigenvalue x
    changes by sign (z.v)^2 / (x - a_i), and the mode of a_i itself by what is left of the trace, which changes by 1.
    Where x = a_i meets a mode that is read, the two have no derivative but their sum has: it goes to the second.
    """
    values, modes = torch.linalg.eigh(matrix)
    gap = values[..., :, None] - a.expand(z.shape)[..., None, :]
    read = sign * (z[..., None, :] @ modes)[..., 0, :].square()
    others = torch.where(gap == 0, 0, read[..., :, None] / torch.where(gap == 0, 1, gap))
    return others + modes.mT.square() * (1 - others.sum(-2, keepdim=True))
