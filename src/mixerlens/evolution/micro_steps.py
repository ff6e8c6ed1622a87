"""Several delta steps a token: (gated) DeltaProduct, PRISM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.errors import InputError
from mixerlens.evolution.base import Factors
from mixerlens.evolution.delta import Delta
from mixerlens.evolution.scalar import Decayed
from mixerlens.shapes import spread, tile, wide


@dataclass(frozen=True, eq=False)
class MicroSteps(Decayed):
    """A_t = a_t (I - beta_M w_M w_M^T) ... (I - beta_1 w_1 w_1^T): the first of the steps is applied first.

    direction: w, (batch, time, heads | groups, steps, dim); used as given (callers normalise).
    beta: (batch, time, heads, steps). log_decay or decay (batch, time, heads): a_t, 1 when both are left out.
    Two reflections make a rotation, which no single delta step can (DeltaProduct, arXiv 2502.10297).
    Eigenvalues: with fewer steps than dimensions a_t (dim - steps times, given once) and ``steps`` others; else all.
    """

    direction: Tensor
    beta: Tensor
    log_decay: Tensor | None = None
    decay: Tensor | None = None
    chunk: ClassVar[int] = 32

    def __post_init__(self) -> None:
        self.settle({"direction": 2, "beta": 1})
        if self.direction.shape[-2] != self.beta.shape[-1]:
            raise InputError(f"direction has {self.direction.shape[-2]} steps, beta has {self.beta.shape[-1]}")

    def step(self, state: Tensor, t: int) -> Tensor:
        heads = max(state.shape[1], self.beta.shape[2], self.direction.shape[2])
        direction = spread(tile(self.direction, t, t + 1), heads)[:, :, 0].to(state.dtype)
        beta = tile(self.beta, t, t + 1)[:, :, 0].to(state.dtype)
        for m in range(beta.shape[-1]):
            w = direction[:, :, m : m + 1]
            state = state - w.mT @ (beta[:, :, m, None, None] * (w @ state))
        return state if self.scalar is None else self.scalar.step(state, t)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        # a delta rule over steps: a token enters and is read at its last step, where its decay acts too
        steps = self.beta.shape[-1]
        direction, beta = tile(self.direction, lo, hi).flatten(2, 3), tile(self.beta, lo, hi).flatten(2, 3)
        decay = None
        if self.scalar is not None:
            decay = pad(self.scalar.factor(lo, hi).unsqueeze(-1), (steps - 1, 0), value=1.0).flatten(-2).transpose(1, 2)
        delta = Delta(direction.transpose(1, 2), beta.transpose(1, 2), decay=decay)
        query, key = (pad(x.unsqueeze(-2), (0, 0, steps - 1, 0)).flatten(2, 3) for x in (query, key))
        f = delta.factors(query, key, 0, steps * (hi - lo))
        last = slice(steps - 1, None, steps)
        return Factors(f.intra[..., last, last], f.emit[..., last, :], f.inject[..., last, :], f.carry)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        def part(x: Tensor) -> Tensor:
            return wide(x[:, lo:hi] if x.shape[1] > 1 else x)

        direction, beta = part(self.direction), part(self.beta).unsqueeze(-1)
        w = spread(direction, max(direction.shape[2], beta.shape[2]), 2)
        steps, dim = w.shape[-2:]
        # the product is I - W^T G with G the impulses that the steps take off, by forward substitution
        gram = beta * (w @ w.mT)
        taken = torch.linalg.solve_triangular(gram.tril(-1), beta * w, upper=False, unitriangular=True)
        if steps < dim:  # W^T G and G W^T share their eigenvalues but for zeros
            values = 1 - torch.linalg.eigvals(taken @ w.mT)
            values = torch.cat([values, torch.ones_like(values[..., :1])], -1)
        else:
            identity = torch.eye(dim, dtype=w.dtype, device=w.device)
            values = torch.linalg.eigvals(identity - w.mT @ taken)
        return self._decayed(values.to(torch.complex128), lo, hi)

    def check(self, dim: int) -> None:
        if self.direction.shape[-1] != dim:
            raise InputError(f"direction has {self.direction.shape[-1]} dimensions, query and key have {dim}")
