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
    (batch, heads, pairs, blocks, 2, rows) as ``probes`` make them; columns: (batch, heads, pairs, columns, parts of the
    rows). No entry is kept: size is empty."""

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
        return self.parts.to(torch.float64).sum(-1)


def summable(columns: int) -> bool:
    """Whether so many columns are whole blocks."""
    return columns % min(columns, TERMS) == 0


def both_sums(inject: Tensor, emit: Tensor, buffers: Buffers) -> tuple[Tensor, Tensor]:
    """``within`` and ``parts`` of |inject emit^T|: inject (n, columns, dim), emit (n, rows, dim)."""
    count, columns, _ = inject.shape
    rows, terms = emit.shape[1], min(columns, TERMS)
    most = max(1, PIECE // inject.element_size())
    wide = min(rows, LONGEST)
    high = min(columns, max(1, most // (wide * terms)) * terms)
    some = min(count, max(1, most // (wide * high)))
    real = inject.dtype.to_real()
    within = torch.empty(count, columns // terms, 2, rows, dtype=real, device=inject.device)
    parts = torch.empty(count, columns, -(-rows // wide), dtype=real, device=inject.device)
    probe, turned = probes(terms, 1, "before", real, inject.device)[0], emit.mT
    for n in range(0, count, some):
        for c in range(0, columns, high):
            left = inject[n : n + some, c : c + high]
            for r in range(0, rows, wide):
                right = turned[n : n + some, :, r : r + wide]
                shape = (left.shape[0], left.shape[1], right.shape[2])
                values = buffers.take("values", shape, inject)
                torch.bmm(left, right, out=values)
                size = values.abs() if values.is_complex() else values.abs_()
                torch.sum(size, -1, out=parts[n : n + some, c : c + high, r // wide])
                block = slice(c // terms, (c + left.shape[1]) // terms)
                blocks = size.view(-1, terms, size.shape[-1])
                sums = torch.bmm(probe.expand(blocks.shape[0], 2, terms), blocks)
                within[n : n + some, block, :, r : r + wide] = sums.view(left.shape[0], -1, 2, size.shape[-1])
    return within, parts
