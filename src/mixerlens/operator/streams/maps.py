"""The ways of a state across windows of tokens, as numbers that can be multiplied together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mixerlens.evolution.base import Carry, Diagonal, Matrix
from mixerlens.shapes import wide


@dataclass(frozen=True, eq=False)
class Maps:
    """One linear map a window, in float64 (complex128): diagonal (batch | 1, heads | 1, windows | 1, dim | 1), or
    dense (batch | 1, heads | 1, windows | 1, dim, dim)."""

    numbers: Tensor

    @property
    def dense(self) -> bool:
        return self.numbers.dim() == 5

    @property
    def may_grow(self) -> bool:
        """Whether a state could leave a window larger than it entered; dense maps are not looked into."""
        return self.dense or bool((self.numbers.abs() > 1 + 1e-9).any())

    def rows(self, rows: Tensor) -> Tensor:
        """Row vectors (batch, heads, windows, r, dim) that read after a window -> those that read the same before."""
        return rows @ self.numbers if self.dense else rows * self.numbers.unsqueeze(-2)

    def columns(self, columns: Tensor) -> Tensor:
        """States before a window, one a row of (batch, heads, windows, c, dim) -> after it."""
        return columns @ self.numbers.mT if self.dense else columns * self.numbers.unsqueeze(-2)

    def after(self, earlier: Maps) -> Maps:
        """First ``earlier``, then these."""
        if self.dense and earlier.dense:
            return Maps(self.numbers @ earlier.numbers)
        if not self.dense and not earlier.dense:
            return Maps(self.numbers * earlier.numbers)
        if self.dense:
            return Maps(self.numbers * earlier.numbers.unsqueeze(-2))
        return Maps(self.numbers.unsqueeze(-1) * earlier.numbers)

    def halves(self, windows: int) -> tuple[Maps, Maps]:
        """The windows of even and of odd number."""
        x = self.numbers
        x = x.expand(*x.shape[:2], windows, *x.shape[3:])
        return Maps(x[:, :, 0::2]), Maps(x[:, :, 1::2])

    def norms(self) -> Tensor:
        """The factor by which a map can lengthen a state: its absolute entries, or the largest singular value as a
        last axis of 1: (batch | 1, heads | 1, windows | 1, dim | 1)."""
        return torch.linalg.matrix_norm(self.numbers, 2).unsqueeze(-1) if self.dense else self.numbers.abs()

    @classmethod
    def joined(cls, parts: list[tuple[Self, int]], batch: int, heads: int) -> Maps:
        """Windows one after the other, (maps, number of windows) each."""
        if len(parts) == 1:
            return parts[0][0]
        dense, dim = any(m.dense for m, _ in parts), max(m.numbers.shape[-1] for m, _ in parts)
        kind = torch.complex128 if any(m.numbers.is_complex() for m, _ in parts) else torch.float64
        numbers = []
        for m, count in parts:
            x = torch.diag_embed(m.numbers.expand(*m.numbers.shape[:-1], dim)) if dense and not m.dense else m.numbers
            numbers.append(x.to(kind).expand(batch, heads, count, *(dim,) * (x.dim() - 3)))
        return cls(torch.cat(numbers, 2))


def maps(carry: Carry, batch: int, heads: int, dim: int, count: int, like: Tensor) -> Maps:
    """The maps of ``count`` windows whose carries are side by side on the batch axis; see ``mixerlens.shapes.fold``."""

    def apart(x: Tensor) -> Tensor:
        """(batch * count | 1, heads | 1, ...) -> (batch | 1, heads | 1, count | 1, ...)."""
        return wide(x).unsqueeze(2) if x.shape[0] == 1 else wide(x).unflatten(0, (-1, count)).transpose(1, 2)

    if type(carry) is Carry:
        return Maps(torch.ones(1, 1, 1, 1, dtype=torch.float64, device=like.device))
    if isinstance(carry, Diagonal):
        return Maps(apart(carry.factor))
    if isinstance(carry, Matrix):
        return Maps(apart(carry.matrix))
    identity = torch.eye(dim, dtype=wide(like).dtype, device=like.device)
    return Maps(apart(carry.forward(identity.expand(batch * count, heads, dim, dim))))
