"""The selective scan's work in pieces that stay in a core's cache: parts of sequences and channels, tiles of steps."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mixerlens.exponential import exponential

FORWARD = 400 << 10, 2  # bytes of one tile, and the steps it should at least have: the forward pass uses two at a time,
BACKWARD = 400 << 10, 8  # the backward pass three, and keeps the state before each
STEPS = 64  # most steps of a tile
SPAN = 64  # steps whose inputs are prepared and whose outputs are stored at once


class Tile:
    """A buffer (steps, batch, state, channels) and the views of it that are used again and again."""

    def __init__(self, full: Tensor) -> None:
        self.full = full
        self.rows = full.unbind(0)
        self.flat = full.flatten(0, 1)
        self.turned = self.flat.mT

    def first(self, steps: int) -> Tile:
        return self if steps == len(self.rows) else Tile(self.full[:steps])


Piece = tuple[Tensor, Tile, list[tuple[Tensor, Tensor, Tensor]]]  # dt of some steps, their tile, and row, B, dt x each


class Part:
    """Some sequences and channels of all arguments, time first, with axes (time, batch, state, channels).

    Channels are last, so that every product runs along long rows.
    """

    def __init__(self, sequences: slice, channels: slice, steps: int, x, dt, A, B, C) -> None:
        self.sequences, self.channels, self.steps = sequences, channels, steps
        self.x, self.dt = (self.of(tensor) for tensor in (x, dt))
        self.B, self.C = (tensor[sequences].transpose(0, 1).contiguous().unsqueeze(3) for tensor in (B, C))
        self.exp, scale = exponential(x.device, x.dtype)
        self.A = A[channels].T.contiguous()
        self.rates = self.A if scale == 1 else self.A * scale
        self.batch = self.x.shape[1]
        self.tiles = [Tile(self.x.new_empty(steps, self.batch, *self.rates.shape)) for _ in range(2)]

    def of(self, tensor: Tensor) -> Tensor:
        """This part of a (batch, time, channels) tensor, time first."""
        return tensor[self.sequences, :, self.channels].transpose(0, 1)

    def state(self, tensor: Tensor) -> Tensor:
        """This part of a (batch, channels, state) tensor, channels last."""
        return tensor[self.sequences, self.channels].transpose(1, 2)

    def kept(self, states: Tensor) -> Tensor:
        """This part of a (count, batch, state, channels) tensor."""
        return states[:, self.sequences, :, self.channels]

    def rows(self, tensor: Tensor) -> Tensor:
        """(time, batch, channels) with channels in a row, as (time, batch, 1, channels)."""
        return (tensor if tensor.stride(-1) == 1 else tensor.contiguous()).unsqueeze(2)

    def decays(self, step: Tensor, tile: Tile) -> None:
        """Fills the tile with exp(dt A) of the steps dt (steps, batch, 1, channels)."""
        torch.mul(step, self.rates, out=tile.full)
        self.exp(tile.full, out=tile.full)

    def pieces(self, step: Tensor, written: Tensor, B: Tensor) -> list[Piece]:
        """The steps cut in tiles; step is dt, written is dt x."""
        writes, pieces = zip(B.unbind(0), written.unbind(0), strict=True), step.split(self.steps)
        tiles = [self.tiles[number % 2].first(len(piece)) for number, piece in enumerate(pieces)]
        rows = [[(row, *next(writes)) for row in tile.rows] for tile in tiles]
        return list(zip(pieces, tiles, rows, strict=True))

    def states(self, pieces: list[Piece], state: Tensor) -> Iterator[Tile]:
        """The states after each step, tile after tile. A tile lives until the one after the next is asked for."""
        for step, tile, rows in pieces:
            self.decays(step, tile)
            for row, b, u in rows:  # one step is a vector operation over all other axes
                state = row.mul_(state).addcmul_(b, u)
            yield tile


class Span:
    """So many steps of a part, copied to where they are contiguous; their views are made once for all such spans."""

    def __init__(self, part: Part, length: int) -> None:
        self.part, self.length = part, length
        size, channels = part.rates.shape
        self.step, self.written, self.rows = part.x.new_empty(3, length, part.batch, 1, channels).unbind(0)
        self.B, self.C = part.x.new_empty(2, length, part.batch, size, 1).unbind(0)
        self.pieces = part.pieces(self.step, self.written, self.B)
        block = part.steps * part.batch
        self.reads, self.outs = (t.flatten(0, 1).split(block) for t in (self.C.mT, self.rows))
        self.state = torch.empty_like(self.pieces[0][1].rows[0])

    def outputs(self, lo: int, state: Tensor, out: Tensor) -> Iterator[Tile]:
        """Tile after tile, the states after each step from `lo` on; in the end `state` and the outputs are stored."""
        part, span = self.part, slice(lo, lo + self.length)
        torch.mul(self.step.copy_(part.dt[span].unsqueeze(2)), part.x[span].unsqueeze(2), out=self.written)
        self.B.copy_(part.B[span])
        self.C.copy_(part.C[span])
        for tile, read, into in zip(part.states(self.pieces, state), self.reads, self.outs, strict=True):
            torch.bmm(read, tile.flat, out=into)
            yield tile
        out[span] = self.rows.squeeze(2)


def shape(tile: tuple[int, int], x: Tensor, A: Tensor) -> tuple[int, int, int]:
    """Sequences, channels and steps of a tile of so many bytes and, where it can be, at least so many steps."""
    size, least = tile
    one = max(1, A.shape[1] * A.element_size())  # bytes of one channel's state
    channels = _even(A.shape[0], max(1, size // least // one))
    batch = _even(x.shape[0], max(1, size // least // (one * channels)))
    return batch, channels, max(1, min(STEPS, size // (one * channels * batch)))


def parts(tile: tuple[int, int], x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Iterator[Part]:
    """The arguments cut in parts, each with tiles of `shape`."""
    batch, channels, steps = shape(tile, x, A)
    for first in range(0, x.shape[0], batch):
        for channel in range(0, A.shape[0], channels):
            yield Part(slice(first, first + batch), slice(channel, channel + channels), steps, x, dt, A, B, C)


def _even(total: int, most: int) -> int:
    """Pieces of nearly equal size, none above `most`."""
    return max(1, -(-total // -(-max(1, total) // most)))
