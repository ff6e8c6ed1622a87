"""A_t any matrix: HiPPO, and the yardstick for every structured kind."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.base import Evolution
from mixerlens.shapes import at, wide


@dataclass(frozen=True, eq=False)
class Dense(Evolution):
    """A_t = matrix_t, (batch, time, heads, dim, dim), leading axes may be left out. Inherits the stepped factors."""

    matrix: Tensor

    def __post_init__(self) -> None:
        self.settle({"matrix": 2})
        if self.matrix.shape[-1] != self.matrix.shape[-2]:
            raise InputError(f"matrix must end in (dim, dim), got {tuple(self.matrix.shape)}")

    def step(self, state: Tensor, t: int) -> Tensor:
        return at(self.matrix, t).to(state.dtype) @ state

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        part = self.matrix[:, lo:hi] if self.matrix.shape[1] > 1 else self.matrix
        return torch.linalg.eigvals(wide(part)).to(torch.complex128)

    def check(self, dim: int) -> None:
        if self.matrix.shape[-1] != dim:
            raise InputError(f"matrix is {self.matrix.shape[-1]} wide, query and key have {dim} dimensions")
