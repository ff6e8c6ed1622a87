"""A tile of |alpha| and its sums.

A tile is stored column by column, the row index runs fastest: then row sums are products of a few probe rows with the
tile, the fast direction of a matrix product, and column sums run over neighbours in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Side: TypeAlias = Literal["before", "diagonal", "after"]
TERMS = 128  # summed in the working precision before the sum goes on in float64


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
    side: Side
    size: Tensor
    values: Tensor | None
    mask: Tensor | None

    def by_head(self) -> Iterator[Tile]:
        """The tile with a head's entries each."""
        yield self

    @cached_property
    def row_mass(self) -> Tensor:
        """sum_j |alpha_ij|: (batch, heads, pairs, rows), float64."""
        return self.size.sum(-2).to(torch.float64) if self.side == "diagonal" else self.row_sums[0]

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
        columns = self.size.shape[-2]
        whole = columns - columns % TERMS
        if whole in (0, columns):
            return self._sums(0, columns, min(TERMS, columns))
        pieces = self._sums(0, whole, TERMS), self._sums(whole, columns, columns - whole)
        return pieces[0][0] + pieces[1][0], pieces[0][1] + pieces[1][1]

    def _sums(self, lo: int, hi: int, terms: int) -> tuple[Tensor, Tensor]:
        """The row sums over the columns lo .. hi of the tile, ``terms`` together in the working precision."""
        part = self.size[..., lo:hi, :].unflatten(-2, (-1, terms))
        return self._over_blocks(probes(terms, 1, self.side, part.dtype, part.device)[0] @ part, lo, hi)

    def _over_blocks(self, within: Tensor, lo: int, hi: int) -> tuple[Tensor, Tensor]:
        """The row sums over the columns lo .. hi from those over their blocks, (..., blocks, 2, rows)."""
        count = within.shape[-3]
        blocks = probes((hi - lo) // count, count, self.side, within.dtype, within.device)[1]
        both = blocks @ within.to(torch.float64).flatten(-3, -2)
        return both[..., 0, :], both[..., 1, :] + both[..., 0, :] * self._away(lo, hi)

    def _away(self, lo: int, hi: int) -> Tensor:
        """Tokens from each row to the nearest of the columns lo .. hi of the tile: (rows,)."""
        row = torch.arange(self.rows.count, dtype=torch.float64, device=self.size.device)
        if self.side == "after":
            return self.columns.first + lo - self.rows.first - row
        return row + (self.rows.first - self.columns.first - hi + 1)


@cache
def probes(terms: int, blocks: int, side: Side, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Within a block of columns [1, tokens to its column nearest to the rows], (2, terms); over blocks the same of
    their sums in float64, (2, 2 blocks). No term is negative, so that nothing cancels."""

    def away(count: int) -> Tensor:
        tokens = torch.arange(count, dtype=torch.float64, device=device)
        return tokens if side == "after" else tokens.flip(0)

    one, none = (torch.full((blocks,), x, dtype=torch.float64, device=device) for x in (1.0, 0.0))
    mass, moment = torch.stack([one, none], -1), torch.stack([terms * away(blocks), one], -1)
    within = torch.stack([torch.ones_like(away(terms)), away(terms)]).to(dtype)
    return within, torch.stack([mass.flatten(), moment.flatten()])


@dataclass(eq=False)
class SharedTile(Tile):
    """A tile whose heads share one product a group: |alpha| = size |left_i| |right_j|.

    size and values (batch, groups, pairs, columns, rows); left (batch, heads, pairs, rows) and right (batch, heads,
    pairs, columns), wide; heads lie group by group.
    """

    left: Tensor
    right: Tensor

    @property
    def each(self) -> int:
        """Heads a group."""
        return self.left.shape[1] // self.size.shape[1]

    def by_head(self) -> Iterator[Tile]:
        unit = _unit(self.right)
        seen = (self.right != 0).any(-1, keepdim=True)  # rows that grow must not meet columns of zeros as infinity
        right, left = (self.right / unit).unsqueeze(-1), (self.left * unit * seen).unsqueeze(-2)
        for head in range(self.left.shape[1]):
            group, own = slice(head // self.each, head // self.each + 1), slice(head, head + 1)
            place = slice(self.heads.start + head, self.heads.start + head + 1)
            l, r = left[:, own], right[:, own]
            size = self.size[:, group] * r.abs().to(self.size.dtype) * l.abs().to(self.size.dtype)
            values = self.values
            if values is not None:
                values = values[:, group] * r.to(values.dtype) * l.to(values.dtype)
            yield Tile(place, self.rows, self.columns, self.side, size, values, self.mask)

    @cached_property
    def row_sums(self) -> tuple[Tensor, Tensor]:
        columns, unit = self.size.shape[-2], _unit(self.right)
        terms = next(n for n in (TERMS, TERMS // 2, TERMS // 4, columns) if columns % n == 0)
        within, blocks = probes(terms, columns // terms, self.side, self.size.dtype, self.size.device)
        right = (self.right.abs() / unit).to(self.size.dtype).unflatten(-1, (-1, terms))
        right = right.unflatten(1, (-1, self.each)).movedim(2, 4)  # (batch, groups, pairs, blocks, heads, terms)
        own = (right.unsqueeze(-3) * within.unsqueeze(-2)).flatten(-3, -2)
        sums = (own @ self.size.unflatten(-2, (-1, terms))).to(torch.float64)  # (..., blocks, 2 heads, rows)
        sums = sums.unflatten(-2, (2, self.each)).flatten(-4, -3).flatten(-2, -1)
        mass, moment = (blocks @ sums).unflatten(-1, (self.each, -1)).unbind(-3)
        moment = moment + mass * self._away(0, columns)
        left = self.left.abs() * unit
        return self._heads(mass) * left, self._heads(moment) * left

    @cached_property
    def column_mass(self) -> Tensor:
        unit = _unit(self.left)
        left = (self.left.abs() / unit).to(self.size.dtype).unflatten(1, (-1, self.each)).movedim(2, -1)
        total, terms = 0, TERMS
        for lo in range(0, self.size.shape[-1], terms):
            total = total + (self.size[..., lo : lo + terms] @ left[..., lo : lo + terms, :]).to(torch.float64)
        assert isinstance(total, Tensor)
        return self._heads(total.mT) * self.right.abs() * unit

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, groups, pairs, heads of a group, n) -> (batch, heads, pairs, n)."""
        return x.transpose(2, 3).flatten(1, 2)


def _unit(x: Tensor) -> Tensor:
    """The largest size along the last axis; 1 where all is zero or not finite."""
    unit = x.abs().amax(-1, keepdim=True)
    return torch.where((unit > 0) & torch.isfinite(unit), unit, 1)
