"""Rectangles of |alpha| of which only the row and column sums are kept: four calls an entry, however large they are.

A piece of the rectangle that stays in the nearest cache is multiplied, made positive and summed both ways before the
next one takes its place; what is left of each piece is one number a column and two a row, which become float64 sums
of the whole rectangle at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mixerlens.operator.streams.buffers import Buffers
from mixerlens.operator.streams.tile import TERMS, Tile, probes

PIECE = 2**20  # bytes of a piece
LONGEST = 1024  # rows a piece
TOGETHER = 2**24  # entries of a rectangle whose sums are held together


@dataclass(eq=False)
class SummedTile(Tile):
    """A tile before the diagonal by its sums. within: the sums and first moments of its rows over blocks of columns,
    (batch, heads, pairs, blocks, 2, rows) as ``probes`` make them. parts: the sums of its columns over parts of the
    rows, (parts, batch, heads, pairs, columns). No entry is kept: size is empty."""

    within: Tensor
    parts: Tensor

    @cached_property
    def row_mass(self) -> Tensor:
        return self.row_sums[0]

    @cached_property
    def row_sums(self) -> tuple[Tensor, Tensor]:
        return self._over_blocks(self.within, 0, self.columns.count)

    @cached_property
    def column_mass(self) -> Tensor:
        return self.parts.sum(0, dtype=torch.float64)


def summable(columns: int) -> bool:
    """Whether so many columns are whole blocks."""
    return columns % min(columns, TERMS) == 0


def both_sums(inject: Tensor, emit: Tensor, buffers: Buffers) -> tuple[Tensor, Tensor]:
    """``within`` and ``parts`` of |inject emit^T|: inject (n, columns, dim), emit (n, rows, dim)."""
    count, columns, _ = inject.shape
    rows, terms = emit.shape[1], min(columns, TERMS)
    most, blocks = max(1, PIECE // inject.element_size()), columns // terms
    wide = min(rows, LONGEST)
    high = min(columns, max(1, most // (wide * terms)) * terms)
    some = min(count, max(1, most // (wide * high))) if wide == rows and high == columns else 1
    real, device = inject.dtype.to_real(), inject.device
    within = [
        torch.empty(count * blocks, 2, min(wide, rows - r), dtype=real, device=device) for r in range(0, rows, wide)
    ]
    parts = torch.empty(len(within), count, columns, dtype=real, device=device)
    probe = probes(terms, 1, "before", real, device)[0].expand(some * high // terms, 2, terms)
    for n in range(0, count, some):
        lefts, rights = inject[n : n + some].split(high, 1), emit[n : n + some].split(wide, 1)
        for right, ways, sums in zip(rights, within, parts, strict=True):
            turned, shape = right.mT, (right.shape[0], high, right.shape[1])
            values = buffers.take("values", shape, inject)
            own, to = ways[n * blocks : (n + some) * blocks], sums[n : n + some].split(high, 1)
            for left, columns_of, blocks_of in zip(lefts, to, own.split(probe.shape[0]), strict=True):
                piece = values[:, : left.shape[1]]
                torch.bmm(left, turned, out=piece)
                size = piece.abs() if piece.is_complex() else piece.abs_()
                torch.sum(size, -1, out=columns_of)
                torch.bmm(probe[: blocks_of.shape[0]], size.reshape(-1, terms, size.shape[-1]), out=blocks_of)
    every = within[0] if len(within) == 1 else torch.cat(within, -1)
    return every.view(count, blocks, 2, rows), parts
