"""A_t = a_t (I - beta_t w_t w_t^T): the delta rule, gated or not (DeltaNet, gated DeltaNet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.anchored import decay_matrix, reversed_products
from mixerlens.evolution.base import Evolution, Factors, Matrix, parameter
from mixerlens.evolution.scalar import Scalar
from mixerlens.shapes import spread, tile, wide


@dataclass(frozen=True, eq=False)
class Delta(Evolution):
    """A_t = a_t (I - beta_t w_t w_t^T).

    direction: w, (batch, time, heads | groups, dim); used as given (callers normalise).
    beta: (batch, time, heads). log_decay or decay (batch, time, heads): a_t, 1 when both are left out.
    Eigenvalues, two a token: a (1 - beta |w|^2) once, and a with multiplicity dim - 1.

    Inside a chunk an impulse x_j loses e_tj = beta_t w_t^T (a_t u_{t-1,j}) along w_t at every later token t, so with D
    the products of decays, E = (I + M)^{-1} diag(beta) stril(W X^T . D), M = diag(beta) stril(W W^T . D), and
    u_ij = D_ij x_j - sum_t D_it w_t e_tj. One unit-triangular solve, in float64: plain float32 loses up to 5e-5 on
    correlated keys, and a Neumann series diverges.
    """

    direction: Tensor
    beta: Tensor
    log_decay: Tensor | None = None
    decay: Tensor | None = None
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        for name, x in self.tensors().items():
            object.__setattr__(self, name, parameter(name, x, 1 if name == "direction" else 0))

    @property
    def scalar(self) -> Scalar | None:
        """The decay beside the reflection."""
        if self.log_decay is None and self.decay is None:
            return None
        return Scalar(log_decay=self.log_decay, decay=self.decay)

    def step(self, state: Tensor, t: int) -> Tensor:
        heads = max(state.shape[1], self.beta.shape[2], self.direction.shape[2])
        w = spread(tile(self.direction, t, t + 1), heads).to(state.dtype)
        beta = tile(self.beta, t, t + 1)[..., None].to(state.dtype)
        state = state - w.mT @ (beta * (w @ state))
        return state if self.scalar is None else self.scalar.step(state, t)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        dtype = query.dtype
        w = tile(self.direction, lo, hi).to(dtype)
        beta = wide(tile(self.beta, lo, hi))
        if self.scalar is None:
            a = torch.ones(1, 1, hi - lo, dtype=torch.float64, device=query.device)
        else:
            a = self.scalar.factor(lo, hi)
        heads = max(query.shape[1], key.shape[1], w.shape[1], beta.shape[1], a.shape[1])
        forward, backward, between = a.cumprod(-1), reversed_products(a, -1), decay_matrix(a, a.dtype)

        def gram(left: Tensor, right: Tensor) -> Tensor:
            groups = max(left.shape[1], right.shape[1])
            return spread(spread(left, groups) @ spread(right, groups).mT, heads)

        column = beta.unsqueeze(-1)
        system = (column * (wide(gram(w, w)) * between)).tril(-1)
        target = (column * (wide(gram(w, key)) * between)).tril(-1)
        w, query, key = (spread(x, heads) for x in (w, query, key))
        start = column * forward.unsqueeze(-1) * wide(w)
        size = hi - lo
        shape = torch.broadcast_shapes(system.shape[:2], target.shape[:2], start.shape[:2])
        system, target, start = (x.expand(*shape, size, -1) for x in (system, target, start))
        solved = torch.linalg.solve_triangular(
            system, torch.cat([target, start], -1).to(system.dtype), upper=False, unitriangular=True
        )
        lost, lost_of_state = solved[..., :size].to(dtype), solved[..., size:].to(dtype)
        mask = between.to(dtype)
        reads = (query @ w.mT) * mask
        left_behind = (backward.to(dtype).unsqueeze(-1) * w).mT
        identity = torch.eye(query.shape[-1], dtype=dtype, device=query.device)
        return Factors(
            intra=(query @ key.mT) * mask - reads @ lost,
            emit=forward.to(dtype).unsqueeze(-1) * query - reads @ lost_of_state,
            inject=backward.to(dtype).unsqueeze(-1) * key - (left_behind @ lost).mT,
            carry=Matrix(forward[..., -1, None, None].to(dtype) * identity - left_behind @ lost_of_state),
        )

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        def part(x: Tensor) -> Tensor:
            return wide(x[:, lo:hi] if x.shape[1] > 1 else x)

        norm = part(self.direction).square().sum(-1)
        beta = part(self.beta)
        along = 1 - beta * spread(norm, max(beta.shape[2], norm.shape[2]), axis=2)
        if self.direction.shape[-1] == 1:
            values = along[..., None]
        else:
            values = torch.stack([along, torch.ones_like(along)], -1)
        values = values.to(torch.complex128)
        return values if self.scalar is None else values * self.scalar.eigenvalues(lo, hi)

    def check(self, dim: int) -> None:
        if self.direction.shape[-1] != dim:
            raise InputError(f"direction has {self.direction.shape[-1]} dimensions, query and key have {dim}")
