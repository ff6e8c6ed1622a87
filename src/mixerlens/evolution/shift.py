"""A_t moves every cell of the state one place down: long convolutions, FIR filters, sliding windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.base import Evolution


@dataclass(frozen=True, eq=False)
class Shift(Evolution):
    """A_t moves every cell of ``block`` numbers one cell down; the last falls out and the first becomes zero.

    With keys e_1 and a query that holds the taps the score is the tap of the lag: a convolution. With blocks of n
    numbers, keys (k, 0, ...) and queries (q, q, ...) it is linear attention over a window of dim / n tokens.
    Eigenvalues: 0 (dim times), given once.
    """

    block: int = 1
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        if self.block < 1:
            raise InputError(f"a cell of the shift holds at least one number, block is {self.block}")

    def step(self, state: Tensor, t: int) -> Tensor:
        b = self.block
        return torch.cat([torch.zeros_like(state[..., :b, :]), state[..., : state.shape[-2] - b, :]], -2)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        return torch.zeros(1, 1, 1, 1, dtype=torch.complex128)

    def check(self, dim: int) -> None:
        if dim % self.block:
            raise InputError(f"cells of {self.block} numbers do not divide the {dim} dimensions of query and key")
