"""A_t = a_t (I - beta_t w_t w_t^T): the delta rule, gated or not (DeltaNet, gated DeltaNet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.anchored import decay_matrix, products, reversed_products
from mixerlens.evolution.base import Factors, Matrix, parameter
from mixerlens.evolution.scalar import Decayed
from mixerlens.shapes import spread, tile, wide


@dataclass(frozen=True, eq=False)
class Delta(Decayed):
    """A_t = a_t (I - beta_t w_t w_t^T).

    direction: w, (batch, time, heads | groups, dim); used as given (callers normalise).
    beta: (batch, time, heads). log_decay or decay (batch, time, heads): a_t, 1 when both are left out.
    Eigenvalues, two a token: a (1 - beta |w|^2) once, and a with multiplicity dim - 1.

    Inside a chunk an impulse x_j loses e_tj = beta_t w_t^T (a_t u_{t-1,j}) along w_t at every later token t, so with D
    the products of decays, E = (I + M)^{-1} diag(beta) stril(W X^T . D), M = diag(beta) stril(W W^T . D), and
    u_ij = D_ij x_j - sum_t D_it w_t e_tj. One unit-triangular solve. A chunk's factors are formed in float64 and cast:
    with correlated keys and beta near 2, float32 products lose 3e-6 and a float32 solve 5e-5; a Neumann series
    diverges.
    """

    direction: Tensor
    beta: Tensor
    log_decay: Tensor | None = None
    decay: Tensor | None = None
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        for name, x in self.tensors().items():
            object.__setattr__(self, name, parameter(name, x, 1 if name == "direction" else 0))

    def step(self, state: Tensor, t: int) -> Tensor:
        heads = max(state.shape[1], self.beta.shape[2], self.direction.shape[2])
        w = spread(tile(self.direction, t, t + 1), heads).to(state.dtype)
        beta = tile(self.beta, t, t + 1)[..., None].to(state.dtype)
        state = state - w.mT @ (beta * (w @ state))
        return state if self.scalar is None else self.scalar.step(state, t)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        dtype = query.dtype
        query, key, w = wide(query), wide(key), wide(tile(self.direction, lo, hi))
        beta = wide(tile(self.beta, lo, hi)).unsqueeze(-1)
        one = torch.ones(1, 1, hi - lo, dtype=torch.float64, device=query.device)
        a = one if self.scalar is None else self.scalar.factor(lo, hi)
        kind = torch.complex128 if any(x.is_complex() for x in (query, key, w, beta, a)) else torch.float64
        heads = max(x.shape[1] for x in (query, key, w, beta, a))
        query, key, w = (spread(x, heads).to(kind) for x in (query, key, w))
        a = a.to(kind)
        forward, backward, between = products(a, -1), reversed_products(a, -1), decay_matrix(a, kind)
        system = (beta * (w @ w.mT * between)).tril(-1)
        target = (beta * (w @ key.mT * between)).tril(-1)
        start = beta * forward.unsqueeze(-1) * w
        leading = torch.broadcast_shapes(system.shape[:2], target.shape[:2], start.shape[:2])
        system, target, start = (x.expand(*leading, -1, -1) for x in (system, target, start))
        solved = torch.linalg.solve_triangular(system, torch.cat([target, start], -1), upper=False, unitriangular=True)
        lost, lost_of_state = solved[..., : hi - lo], solved[..., hi - lo :]
        reads = (query @ w.mT) * between
        kept = (backward.unsqueeze(-1) * w).mT  # what is left at the end of the chunk of one unit along w_t
        identity = torch.eye(query.shape[-1], dtype=kind, device=query.device)
        return Factors(
            intra=((query @ key.mT) * between - reads @ lost).to(dtype),
            emit=(forward.unsqueeze(-1) * query - reads @ lost_of_state).to(dtype),
            inject=(backward.unsqueeze(-1) * key - (kept @ lost).mT).to(dtype),
            carry=Matrix(forward[..., -1, None, None] * identity - kept @ lost_of_state),
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
