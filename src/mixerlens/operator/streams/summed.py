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
    """``within`` and ``parts`` of |inject emit^T|: inject (n, columns, dim), emit (n, rows, dim). within is float64 and
    overwritten by the next call."""
    (count, columns, dim), rows, terms = inject.shape, emit.shape[1], min(inject.shape[1], TERMS)
    strips = emit.split(-(-rows // max(1, rows // LONGEST)), 1)  # no strip is much narrower than the others
    real, blocks = inject.dtype.to_real(), columns // terms
    within = buffers.take("within", (count, blocks, 2, rows), inject, torch.float64)
    parts = torch.empty(len(strips), count, columns, dtype=real, device=inject.device)
    probe, start = probes(terms, 1, "before", real, inject.device)[0], 0
    for strip, sums in zip(strips, parts, strict=True):
        wide = strip.shape[1]
        most = max(1, PIECE // (inject.element_size() * wide * terms))  # blocks a piece
        high = next(n for n in range(min(most, blocks), 0, -1) if blocks % n == 0)
        some = max(1, most // blocks)
        strip_sums = buffers.take("strip", (count * blocks, 2, wide), inject, real)
        values = buffers.take("values", (min(some, count), high * terms, wide), inject)
        per = blocks // high
        rights = [x for x in strip.mT.split(some) for _ in range(per)]
        pieces = zip(
            inject.reshape(-1, high * terms, dim).split(some), rights, sums.view(-1, high * terms).split(some),
            probe.expand(count * blocks, 2, terms).split(some * high), strip_sums.split(some * high), strict=True,
        )  # fmt: skip
        for left, right, of_columns, probing, of_blocks in pieces:
            piece = values if left.shape[0] == values.shape[0] else values[: left.shape[0]]
            torch.bmm(left, right, out=piece)
            size = piece.abs() if piece.is_complex() else piece.abs_()
            torch.sum(size, -1, out=of_columns)
            torch.bmm(probing, size.view(-1, terms, wide), out=of_blocks)
        within[..., start : start + wide].copy_(strip_sums.view(count, blocks, 2, wide))
        start += wide
    return within, parts
