"""Products of decays within chunks, for a backward pass written by hand: multiplications only, in float64.

A chunk is cut in tiles of 16 steps. Within a tile a row of products is the row above times one decay; two neighbours,
tiles first and then pairs of pairs, meet in a block that is the outer product of what they remember up to their border.
So nothing is ever divided and nothing goes through a logarithm: zeros and underflow are exact. (`evolution.anchored`
halves down to single steps, which autograd can pass through, at several times the cost.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mixerlens.scans.room import Room

TILE = 16


class Decays:
    """The products of a (..., steps), float64, with leading axes kept; factors of matrices come in `dtype`.

    since[i] = a[0] ... a[i], until[j] = a[j+1] ... a[last], total = a[0] ... a[last]. A weight, of the shape of a, is
    what each step writes: it multiplies the columns of the matrices, and `until`. The next decays made in the same room
    overwrite the matrices' factors.
    """

    def __init__(self, a: Tensor, dtype: torch.dtype, room: Room, weight: Tensor | None = None) -> None:
        self.steps, self._size, self._dtype = a.shape[-1], min(TILE, a.shape[-1]), dtype
        self.padded = self._size  # steps of the matrices: a tile doubled often enough
        while self.padded < self.steps:
            self.padded *= 2
        cut = (self.padded // self._size, self._size)
        missing = (0, self.padded - self.steps)
        a = torch.nn.functional.pad(a, missing, value=1.0).unflatten(-1, cut)
        weight = torch.ones_like(a) if weight is None else torch.nn.functional.pad(weight, missing).unflatten(-1, cut)
        within = room("decays", self._size, *a.shape, dtype=a.dtype)
        self._within = _products(a, weight, out=within)
        since, until = a.cumprod(-1), torch.ones_like(a)
        torch.cumprod(a[..., 1:].flip(-1), -1, out=until[..., 1:])
        until = until.flip(-1) * weight
        self._levels: list[tuple[Tensor, Tensor]] = []  # rows and columns of the blocks, (..., pairs, size)
        while since.shape[-2] > 1:
            (first, second), (left, right) = (tensor.unflatten(-2, (-1, 2)).unbind(-2) for tensor in (since, until))
            self._levels.append((second.to(dtype), left.to(dtype)))
            since = torch.cat([first, second * first[..., -1:]], -1)
            until = torch.cat([left * second[..., -1:], right], -1)
        self.since, self.until = (tensor[..., 0, : self.steps].to(dtype) for tensor in (since, until))
        self.total = since[..., 0, -1]  # float64: it multiplies what is carried on

    def matrix(self, index: int | slice = slice(None), out: Tensor | None = None) -> Tensor:
        """D[i, j] = a[j+1] ... a[i] for j <= i, 0 above: (..., steps, steps), of the leading entries at `index`.

        `out` is (..., padded, padded).
        """
        within, *levels = self._factors()
        tiles = within[index]
        shape = (*tiles.shape[:-3], self.padded, self.padded)
        full = tiles.new_empty(shape, dtype=self._dtype) if out is None else out
        _fill(full, self._blocks(full), tiles, [(row[index], column[index]) for row, column in levels])
        return full[..., : self.steps, : self.steps]

    def matrices(self, out: Tensor) -> Iterator[Tensor]:
        """`matrix` of each leading index, one after the other in the same memory `out`."""
        (within, *levels), blocks = self._factors(), self._blocks(out)
        found = out[..., : self.steps, : self.steps]
        pairs = (zip(row.unbind(0), column.unbind(0), strict=True) for row, column in levels)
        for tiles, *factors in zip(within.unbind(0), *pairs, strict=True):
            _fill(out, blocks, tiles, factors)
            yield found

    def _factors(self) -> tuple[Tensor, *tuple[tuple[Tensor, Tensor], ...]]:
        """The tiles, (..., size, size, count), and the rows and columns of each level of blocks."""
        levels = ((row.mT.unsqueeze(-2), column.mT.unsqueeze(-3)) for row, column in self._levels)
        return self._within.movedim(0, -2).movedim(-3, -1), *levels

    def _blocks(self, out: Tensor) -> list[Tensor]:
        """Where the tiles go, and the blocks of each level."""
        sizes = [self._size << number for number in range(len(self._levels))]
        blocks = (_tiles(out, 2 * size)[..., size:, :size, :] for size in sizes)
        return [_tiles(out, self._size), *blocks]


def _fill(out: Tensor, blocks: list[Tensor], tiles: Tensor, levels: Sequence[tuple[Tensor, Tensor]]) -> None:
    out.zero_()
    blocks[0].copy_(tiles)
    for block, (row, column) in zip(blocks[1:], levels, strict=True):
        torch.mul(row, column, out=block)


def _tiles(matrix: Tensor, size: int) -> Tensor:
    """The square tiles on the diagonal, (..., size, size, count), a view."""
    cut = (matrix.shape[-1] // size, size)
    return matrix.unflatten(-1, cut).unflatten(-3, cut).diagonal(dim1=-4, dim2=-2)


def _products(a: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """Of (..., size): [i, ..., j] = a[j+1] ... a[i] weight[j] for j <= i, 0 above."""
    out.zero_().diagonal(dim1=0, dim2=-1).copy_(weight)
    for i in range(1, a.shape[-1]):
        torch.mul(out[i - 1, ..., :i], a[..., i : i + 1], out=out[i, ..., :i])
    return out
