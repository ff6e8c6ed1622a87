"""A_t = I: attention without positions inside the mixer, linear attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.evolution.base import Carry, Evolution, Factors
from mixerlens.shapes import spread


@dataclass(frozen=True, eq=False)
class Identity(Evolution):
    """A_t = I. One eigenvalue, 1."""

    chunk: ClassVar[int] = 256

    def step(self, state: Tensor, t: int) -> Tensor:
        return state

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        heads = max(query.shape[1], key.shape[1])
        return Factors((spread(query, heads) @ spread(key, heads).mT).tril(), query, key, Carry())

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        return torch.ones(1, 1, 1, 1, dtype=torch.complex128)
