"""A_t = a_t I: one decay a head and token (RetNet, Mamba-2, mLSTM, minGRU)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.anchored import decay_matrix
from mixerlens.evolution.base import Diagonal as DiagonalCarry
from mixerlens.evolution.base import Evolution, Factors
from mixerlens.shapes import spread, tile, wide


@dataclass(frozen=True, eq=False)
class Scalar(Evolution):
    """A_t = a_t I with either log_decay (a_t = exp(log_decay)) or decay itself, (batch, time, heads), any leading
    axes left out. decay may be zero, negative or complex. log_decay -inf is a closed gate. One eigenvalue a token, a_t.
    """

    log_decay: Tensor | None = None
    decay: Tensor | None = None
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        if (self.log_decay is None) == (self.decay is None):
            raise InputError("give exactly one of log_decay and decay")
        self.settle()

    def factor(self, lo: int, hi: int) -> Tensor:
        """a_t in float64 (complex128): (batch, heads, hi - lo)."""
        if self.log_decay is not None:
            return torch.exp(wide(tile(self.log_decay, lo, hi)))
        assert self.decay is not None
        return wide(tile(self.decay, lo, hi))

    def step(self, state: Tensor, t: int) -> Tensor:
        return (self.factor(t, t + 1)[..., None].to(state.dtype)) * state

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        a = self.factor(lo, hi)
        dtype = query.dtype
        heads = max(query.shape[1], key.shape[1])
        gram = spread(query, heads) @ spread(key, heads).mT  # shared by the heads of a group
        heads = max(heads, a.shape[1])
        between, forward, backward = decay_matrix(a, dtype)
        return Factors(
            intra=spread(gram, heads) * between,
            emit=spread(query, heads) * forward.to(dtype).unsqueeze(-1),
            inject=spread(key, heads) * backward.to(dtype).unsqueeze(-1),
            carry=DiagonalCarry(forward[..., -1:]),
        )

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        x = self.decay if self.log_decay is None else self.log_decay
        assert x is not None
        a = wide(x[:, lo:hi] if x.shape[1] > 1 else x)
        return (a if self.log_decay is None else torch.exp(a)).to(torch.complex128)[..., None]


class Decayed(Evolution):
    """Base of the kinds that have a scalar decay beside their own map, in fields log_decay and decay."""

    log_decay: Tensor | None
    decay: Tensor | None

    @cached_property
    def scalar(self) -> Scalar | None:
        """The decay beside the map; None where it is 1."""
        if self.log_decay is None and self.decay is None:
            return None
        return Scalar(log_decay=self.log_decay, decay=self.decay)

    def _decayed(self, values: Tensor, lo: int, hi: int | None) -> Tensor:
        """Eigenvalues (batch, time, heads | groups, modes) of the map without its decay, times the decay."""
        if self.scalar is None:
            return values
        a = self.scalar.eigenvalues(lo, hi)
        return spread(values, max(values.shape[2], a.shape[2]), axis=2) * a
