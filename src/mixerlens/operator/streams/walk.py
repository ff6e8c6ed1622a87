"""Every entry of alpha once, in tiles of a size that stays in the cache.

A block of tokens is folded from chunks by merging neighbours; each merge is a batch of square tiles, so the triangle of
a block is its chunks' own plus one batch a level. What a block reads of all earlier ones are rectangles: its rows, in
float64, walk back block by block, and meet the injects that were formed when the columns were a block. The scores of a
tile are one product into a buffer that is used again and again; nothing else of that size is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.operator.streams import logs
from mixerlens.operator.streams.borders import Borders
from mixerlens.operator.streams.buffers import Buffers
from mixerlens.operator.streams.generators import Generators, Square
from mixerlens.operator.streams.gram import Gram
from mixerlens.operator.streams.skipping import Skipping
from mixerlens.operator.streams.summed import TOGETHER, SummedTile, both_sums, summable
from mixerlens.operator.streams.thin import ThinTile
from mixerlens.operator.streams.tile import Places, SharedTile, Side, Tile
from mixerlens.support import Support

TILE = 2 * 2**20  # bytes of a tile
BLOCK = 2048  # tokens a block
LOGS = 2  # times as many where decays are given by logarithms: entries cost little there beside a block's other work
ROWS = 256  # rows that are skipped together
SHARED = 32  # tokens a chunk where heads share a product: beyond it, they do
VECTORS = 4 * 2**20  # bytes of a head group's generators in float64, where there are several heads


class Stream:
    """The tiles of one group of heads, each row's from near to far.

    signs: whether the tiles must carry alpha beside |alpha|. summed: whether sums of tiles are enough. skipping: what
    need not be computed. block: tokens a block, about.
    """

    def __init__(
        self, mixer: Mixer, heads: range, buffers: Buffers, *, signs: bool, skipping: Skipping,
        block: int | None = None, summed: bool = False,
    ) -> None:  # fmt: skip
        self.mixer, self.heads, self.signs, self.summed, self.skipping = mixer, heads, signs, summed, skipping
        self.chunk, self.windows = shape(mixer, block)
        self.size = self.chunk * self.windows
        known = Gram if Gram.fits(mixer) else Generators
        self.generators = known(mixer, self.chunk, self.windows, buffers.of("generators"), bounded=skipping.wanted)
        self.borders = Borders(mixer.terms[0][0].support, mixer.time, padded(mixer) + self.size, mixer.device)
        self.buffers = buffers
        self.done = 0.0  # the fraction of all entries that has been handed out

    def __iter__(self) -> Iterator[Tile]:
        for lo in range(0, self.mixer.time, self.size):
            yield from self._own(lo, self.generators.block(lo))
            length = self.chunk
            for square in self.generators.squares():
                columns = Places(lo, length, square.inject.shape[2], 2 * length)
                rows = Places(lo + length, length, columns.pairs, columns.step)
                yield from self._cut(square, rows, columns)
                length *= 2
            yield from self._left(lo)
            if lo + self.size < self.mixer.time or self.skipping.wanted:
                self.generators.keep()
            self.done = min(1.0, ((lo + self.size) / self.mixer.time) ** 2)
        self.skipping.finish(self.generators, self.heads)

    def _left(self, lo: int) -> Iterator[Tile]:
        """The rectangles left of a block, from near to far."""
        spans = [range(r, min(r + ROWS, self.mixer.time - lo)) for r in range(0, self.mixer.time - lo, ROWS)]
        spans = [s for s in spans if s.start < self.size]
        for k in reversed(range(lo // self.size)):
            last = (k + 1) * self.size
            spans = [s for s in spans if not self.borders.passed(Places(lo + s.start, len(s)), last)]
            columns = Places(last - self.size, self.size)
            spans, whole, thin = self.skipping.ask(self.generators, self.heads, lo, spans, ROWS, k, columns)
            for span in whole:
                square = self.generators.against(k, slice(span.start, span.stop))
                yield from self._cut(square, Places(lo + span.start, len(span)), columns)
            for span, dims in thin:
                yield from self._thin(k, span, Places(lo + span.start, len(span)), columns, dims)
            if not spans:
                return
            self.generators.back(k)

    def _thin(self, k: int, span: range, rows: Places, columns: Places, dims: Tensor) -> Iterator[Tile]:
        """A rectangle of which two dimensions are enough, or one: then with all that lies to the left of it."""
        inside = slice(span.start, span.stop)
        if dims.shape[-1] == 1:
            columns, mask, get = Places(0, columns.stop), True, self.generators.line
        else:
            mask, get = self.borders.within(rows, columns), self.generators.plane
        if mask is False:
            return
        if mask is not True:
            yield from self._cut(self.generators.against(k, inside), rows, columns)
            return
        left, right, fan = get(k, inside, dims)
        heads, none = slice(self.heads.start, self.heads.stop), left[..., :0, 0]
        tile = ThinTile(heads, rows, columns, "before", none, None, None, left, right, fan)
        self.skipping.saw(tile)
        yield tile

    def _own(self, lo: int, intra: Tensor) -> Iterator[Tile]:
        """The chunks themselves."""
        for heads, pairs, _ in self._pieces(intra.shape[1], self.windows, self.chunk, self.chunk, least=self.chunk):
            own = Places(lo + pairs.start * self.chunk, self.chunk, len(pairs), self.chunk)
            mask = self.borders.within(own, own)
            if mask is False:
                continue
            values = intra[:, heads, pairs.start : pairs.stop].mT
            if not values.is_contiguous():
                values = self.buffers.take("values", tuple(values.shape), values).copy_(values)
            values.triu_()  # columns by rows: what a row does not see lies below the diagonal
            causal = torch.ones(self.chunk, self.chunk, dtype=torch.bool, device=intra.device).triu()
            inside = causal if mask is True else mask & causal
            tile = self._tile(heads, own, own, "diagonal", values, inside, zeroed=mask is True)
            self.skipping.saw(tile)
            yield tile

    def _cut(self, square: Square, rows: Places, columns: Places) -> Iterator[Tile]:
        batch, units, pairs, length, dim = square.inject.shape
        if self.summed and square.left is None and summable(length) and self.borders.within(rows, columns) is True:
            yield from self._sums(square, rows, columns)
            return
        for group, some, span in self._pieces(units, pairs, length, square.emit.shape[3]):
            here = Places(rows.first + some.start * rows.step + span.start, len(span), len(some), rows.step)
            there = Places(columns.first + some.start * columns.step, length, len(some), columns.step)
            mask = self.borders.within(here, there)
            if mask is False:
                continue
            part = square.part(group, some, span)
            shape = (batch, group.stop - group.start, len(some), length, len(span))
            values = self.buffers.take("values", shape, part.inject)
            left, right = part.inject.reshape(-1, length, dim), part.emit.reshape(-1, len(span), dim)
            torch.bmm(left, right.mT, out=values.view(-1, length, len(span)))
            tile = self._tile(group, here, there, "before", values, None if mask is True else mask, part)
            self.skipping.saw(tile)
            yield tile

    def _sums(self, square: Square, rows: Places, columns: Places) -> Iterator[Tile]:
        """The sums of squares that lie wholly within the support, few heads together."""
        batch, units, pairs, length, dim = square.inject.shape
        each = max(1, TOGETHER // (batch * pairs * length * rows.count))
        for h in range(0, units, each):
            inject, emit = square.inject[:, h : h + each], square.emit[:, h : h + each]
            shape = inject.shape[:3]
            pair = inject.reshape(-1, length, dim), emit.reshape(-1, rows.count, dim)
            within, parts = both_sums(*pair, self.buffers.of("sums"))
            within, parts = within.unflatten(0, shape), parts.unflatten(1, shape)
            heads = slice(self.heads.start + h, self.heads.start + h + shape[1])
            tile = SummedTile(heads, rows, columns, "before", parts[0, ..., :0], None, None, within, parts)
            self.skipping.saw(tile)
            yield tile

    def _tile(
        self, heads: slice, rows: Places, columns: Places, side: Side, values: Tensor, mask: Tensor | None,
        square: Square | None = None, *, zeroed: bool = False,
    ) -> Tile:  # fmt: skip
        if mask is not None and not zeroed:
            values.masked_fill_(~mask, 0)
        if self.signs or values.is_complex():
            size = self.buffers.take("size", tuple(values.shape), values, values.dtype.to_real())
            torch.abs(values, out=size)
        else:
            size = values.abs_()
        signed = values if self.signs else None
        if square is None or square.left is None or square.right is None:
            heads = slice(self.heads.start + heads.start, self.heads.start + heads.stop)
            return Tile(heads, rows, columns, side, size, signed, mask)
        each = len(self.heads) // self.generators.units
        heads = slice(self.heads.start + heads.start * each, self.heads.start + heads.stop * each)
        return SharedTile(heads, rows, columns, side, size, signed, mask, square.left, square.right)

    def _pieces(
        self, heads: int, pairs: int, columns: int, rows: int, *, least: int = 16
    ) -> Iterator[tuple[slice, range, range]]:
        """Heads, pairs and at least so many rows whose tiles fit the buffer."""
        most = max(1, TILE // (self.mixer.coefficient_dtype.itemsize * self.mixer.batch))  # entries
        rows_each = min(rows, max(least, most // columns))
        pairs_each = min(pairs, max(1, most // (columns * rows_each)))
        heads_each = min(heads, max(1, most // (columns * rows_each * pairs_each)))
        for h in range(0, heads, heads_each):
            for p in range(0, pairs, pairs_each):
                for r in range(0, rows, rows_each):
                    yield (
                        slice(h, min(h + heads_each, heads)),
                        range(p, min(p + pairs_each, pairs)),
                        range(r, min(r + rows_each, rows)),
                    )


def shape(mixer: Mixer, block: int | None = None) -> tuple[int, int]:
    """Tokens a chunk and chunks a block."""
    tokens = length(mixer, block)
    chunk = min(tokens, SHARED if Gram.fits(mixer) else _chunk(mixer))
    return chunk, tokens // chunk


def _chunk(mixer: Mixer) -> int:
    """Tokens a chunk: where the kinds' closed forms are cheapest."""
    wanted = max(d.evolution.chunk for d, _ in mixer.terms)
    if all(logs.given(d) for d, _ in mixer.terms):
        return min(logs.chunk(d) or wanted for d, _ in mixer.terms)
    return wanted


def length(mixer: Mixer, block: int | None = None) -> int:
    """Tokens a block."""
    size = max(SHARED, *(d.evolution.chunk for d, _ in mixer.terms))
    most = block or BLOCK * (LOGS if all(logs.given(d) for d, _ in mixer.terms) else 1)
    while size < min(mixer.time, most):
        size *= 2
    return size


def padded(mixer: Mixer) -> int:
    """Tokens that totals must have room for."""
    size = length(mixer)
    return (-(-mixer.time // size) + 1) * size


def fits(mixer: Mixer) -> bool:
    """Whether the tiles of a mixer can be formed from generators: linear readouts over one causal support in runs."""
    first = mixer.terms[0][0].support
    return all(
        d.readout.linear
        and d.support.causal
        and d.support.contiguous
        and (d.support is first or _same(d.support, first))
        and (d.support.recurrent or not d.normalizer.row_sum)
        for d, _ in mixer.terms
    )


def _same(one: Support, other: Support) -> bool:
    if one.window != other.window or (one.segments is None) != (other.segments is None):
        return False
    return one.segments is None or other.segments is None or torch.equal(one.segments, other.segments)


def streams(mixer: Mixer, *, signs: bool, skipping: Skipping, summed: bool = False) -> Iterator[Stream]:
    """The mixer, group of heads by group of heads: their generators stay in the cache, or there is one head."""
    each = mixer.batch * mixer.time * mixer.dim * 8
    size = mixer.heads if Gram.fits(mixer) else max(1, VECTORS // each)
    buffers = Buffers()
    for start in range(0, mixer.heads, size):
        group = range(start, min(start + size, mixer.heads))
        yield Stream(mixer.select_heads(group), group, buffers, signs=signs, skipping=skipping, summed=summed)
