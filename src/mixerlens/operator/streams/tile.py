"""A tile of |alpha| and its sums.

A tile is stored column by column, the row index runs fastest: then row sums are products of a few probe rows with the
tile, the fast direction of a matrix product, and column sums run over neighbours in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

TERMS = 64  # summed in the working precision before the sum goes on in float64


@dataclass(frozen=True)
class Places:
    """The rows (or columns) of neighbouring pairs: pair p has ``count`` tokens from first + p * step on."""

    first: int
    count: int
    pairs: int = 1
    step: int = 0

    def of(self, x: Tensor) -> Tensor:
        """The entries of x (..., time) at these tokens, a view (..., pairs, count). x must be padded by a step."""
        if self.pairs == 1:
            return x.narrow(-1, self.first, self.count).unsqueeze(-2)
        whole = x.narrow(-1, self.first, self.pairs * self.step)
        return whole.unflatten(-1, (self.pairs, self.step))[..., : self.count]

    def tokens(self, device: torch.device) -> Tensor:
        """(pairs, count)."""
        starts = torch.arange(self.pairs, device=device) * self.step + self.first
        return starts[:, None] + torch.arange(self.count, device=device)

    @property
    def stop(self) -> int:
        """One past the last token."""
        return self.first + (self.pairs - 1) * self.step + self.count


@dataclass(eq=False)
class Tile:
    """|alpha| of some heads in neighbouring pairs of row blocks and column blocks.

    size: |alpha| (batch, heads, pairs, columns, rows), zero off the support. values: alpha, where somebody asked for
    signs. side: whether the columns come before or after all the rows, or are the same tokens ("diagonal"); of a
    causal mixer what lies above the diagonal is zero. mask: the support within the tile, (batch | 1, 1, pairs | 1,
    columns, rows); None for all of it.
    """

    heads: slice
    rows: Places
    columns: Places
    side: Literal["before", "diagonal", "after"]
    size: Tensor
    values: Tensor | None
    mask: Tensor | None

    @cached_property
    def row_mass(self) -> Tensor:
        """sum_j |alpha_ij|: (batch, heads, pairs, rows), float64."""
        if self.side == "diagonal" or "row_sums" not in self.__dict__:
            return self.size.sum(-2).to(torch.float64)
        return self.row_sums[0]

    @cached_property
    def column_mass(self) -> Tensor:
        """sum_i |alpha_ij|: (batch, heads, pairs, columns), float64."""
        return self.size.sum(-1).to(torch.float64)

    @cached_property
    def row_sums(self) -> tuple[Tensor, Tensor]:
        """sum_j |alpha_ij| and sum_j |alpha_ij| |i - j|, each as ``row_mass``."""
        if self.side == "diagonal":
            place = torch.arange(self.rows.count, device=self.size.device)
            lag = (place - place[:, None]).abs().to(self.size.dtype)
            return self.row_mass, (self.size * lag).sum(-2).to(torch.float64)
        *leading, columns, rows = self.size.shape
        mass, moment = (torch.zeros(*leading, rows, dtype=torch.float64, device=self.size.device) for _ in range(2))
        whole = columns - columns % TERMS
        for lo, hi, terms in ((0, whole, TERMS), (whole, columns, columns - whole)):
            if lo == hi:
                continue
            part = self.size[..., lo:hi, :].unflatten(-2, (-1, terms))
            sums = (self._probes(terms) @ part).to(torch.float64)  # (..., blocks, 2, rows)
            mass += sums[..., 0, :].sum(-2)
            moment += (sums[..., 0, :] * self._nearest(lo, hi, terms) + sums[..., 1, :]).sum(-2)
        return mass, moment

    def _probes(self, terms: int) -> Tensor:
        """[1, tokens from the column to that of its block which is nearest to the rows]: nothing cancels."""
        away = torch.arange(terms, device=self.size.device, dtype=self.size.dtype)
        return torch.stack([torch.ones_like(away), away if self.side == "after" else away.flip(0)])

    def _nearest(self, lo: int, hi: int, terms: int) -> Tensor:
        """Tokens from each row to the nearest column of each block: (blocks, rows)."""
        device = self.size.device
        row = torch.arange(self.rows.count, device=device) + self.rows.first
        block = torch.arange(self.columns.first + lo, self.columns.first + hi, terms, device=device)[:, None]
        near = block - row if self.side == "after" else row - (block + terms - 1)
        return near.to(torch.float64)
