"""A_t = I + c_t e_{n-2} e_{n-1}^T: an additive bias inside phi (ALiBi, the forgetting transformer)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.errors import InputError
from mixerlens.evolution.base import Carry, Evolution, Factors
from mixerlens.shapes import spread, tile, wide


def _lift(rows: Tensor, offset: Tensor) -> Tensor:
    """Row vectors times the product I + offset e_{n-2} e_{n-1}^T: rows (..., n), offset (...)."""
    return rows + pad((rows[..., -2] * offset)[..., None], (rows.shape[-1] - 1, 0))


@dataclass(frozen=True, eq=False)
class _UnipotentCarry(Carry):
    offset: Tensor  # (batch, heads), float64

    def forward(self, state: Tensor) -> Tensor:
        gain = state[..., -1:, :] * self.offset[..., None, None].to(state.dtype)
        return state + pad(gain, (0, 0, state.shape[-2] - 2, 1))

    def backward(self, rows: Tensor) -> Tensor:
        return _lift(rows, self.offset[..., None].to(rows.dtype))


@dataclass(frozen=True, eq=False)
class Unipotent(Evolution):
    """A_t adds offset_t times the last state dimension to the last but one.

    With keys (k, 0, 1) and queries (q, 1, 0) the score is q.k + sum_{j<t<=i} offset_t: ALiBi has offset = -slope,
    the forgetting transformer log f_t.

    offset: (batch, time, heads), leading axes may be left out; finite. One eigenvalue, 1, in a Jordan block.
    """

    offset: Tensor
    chunk: ClassVar[int] = 128

    def __post_init__(self) -> None:
        if isinstance(self.offset, Tensor) and bool(torch.isinf(self.offset).any()):
            raise InputError("unipotent offsets must be finite: an infinite penalty is a support (window, segments)")
        self.settle()

    def step(self, state: Tensor, t: int) -> Tensor:
        return _UnipotentCarry(wide(tile(self.offset, t, t + 1))[..., 0]).forward(state)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        dtype = query.dtype
        forward = wide(tile(self.offset, lo, hi)).cumsum(-1)
        total = forward[..., -1]
        heads = max(query.shape[1], key.shape[1], forward.shape[1])
        query, key = spread(query, heads), spread(key, heads)
        between = (forward[..., :, None] - forward[..., None, :]).tril().to(dtype)
        bias = query[..., :, None, -2] * between * key[..., None, :, -1]
        after = (total[..., None] - forward).to(dtype)  # sum of the offsets after token j
        return Factors(
            intra=(query @ key.mT + bias).tril(),
            emit=_lift(query, forward.to(dtype)),
            inject=key + pad((key[..., -1] * after)[..., None], (key.shape[-1] - 2, 1)),
            carry=_UnipotentCarry(total),
        )

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        return torch.ones(1, 1, 1, 1, dtype=torch.complex128)

    def check(self, dim: int) -> None:
        if dim < 2:
            raise InputError(f"a unipotent evolution needs at least 2 state dimensions, got {dim}")
