"""Every entry of alpha once, in tiles of a size that stays in the cache.

A block of tokens is folded from chunks by merging neighbours; each merge is a batch of square tiles, so the triangle of
a block is its chunks' own plus one batch a level. What a block reads of all earlier ones are rectangles: its rows, in
float64, walk back block by block, each with the injects that were formed when its columns were met. The scores of a
tile are one product into a buffer that is used again and again; nothing else of that size is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.operator.streams.generators import Generators, Square
from mixerlens.operator.streams.maps import Maps
from mixerlens.operator.streams.tile import Places, Tile
from mixerlens.support import Support

TILE = 2 * 2**20  # bytes of a tile
BLOCK = 1024  # tokens a block
ROWS = 512  # rows of a tile that lies left of its block
VECTORS = 4 * 2**20  # bytes of a head group's generators in float64, where there are several heads


class Buffers:
    """Memory that is used again."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Uninitialised (shape); what was taken under this name before is overwritten."""
        count = 1
        for n in shape:
            count *= n
        held = self._held.get((name, dtype))
        if held is None or held.numel() < count or held.device != device:
            held = self._held[name, dtype] = torch.empty(count, dtype=dtype, device=device)
        return held[:count].view(shape)


class Borders:
    """The first column that each row of a causal support sees, where that is not token 0."""

    def __init__(self, support: Support, time: int, padded: int, device: torch.device) -> None:
        self.first: Tensor | None = None
        if support.window is None and support.segments is None:
            return
        token = torch.arange(time, device=device)
        first = torch.zeros(1, time, dtype=torch.long, device=device)
        if support.segments is not None:
            s = support.segments.to(device)
            new = torch.cat([torch.ones_like(s[:, :1], dtype=torch.bool), s[:, 1:] != s[:, :-1]], 1)
            first = torch.where(new, token, 0).cummax(1).values
            first = torch.where(s >= 0, first, time)  # padding sees nothing
        if support.window is not None:
            first = torch.maximum(first, token - support.window + 1)
        self.first = torch.nn.functional.pad(first, (0, padded - time), value=padded)

    def within(self, rows: Places, columns: Places) -> Tensor | bool:
        """The support within a tile left of its rows, (batch | 1, 1, pairs, columns, rows): True for all of it, False
        for none of it."""
        if self.first is None:
            return True
        first, column = rows.of(self.first), columns.tokens(self.first.device)
        if bool((first <= column[:, :1]).all()):
            return True
        if bool((first > column[:, -1:]).all()):
            return False
        return (column[:, :, None] >= first[:, :, None, :]).unsqueeze(1)

    def passed(self, rows: Places, column: int) -> bool:
        """No row sees a token before this one."""
        return self.first is not None and bool((rows.of(self.first) >= column).all())


class Stream:
    """The tiles of one group of heads. ``needless`` is asked before a tile is computed.

    signs: whether the tiles must carry alpha beside |alpha|.
    """

    def __init__(self, mixer: Mixer, heads: range, *, signs: bool) -> None:
        self.mixer, self.heads, self.signs = mixer, heads, signs
        self.generators = Generators(mixer)
        self.chunk, self.windows = shape(mixer)
        self.size = self.chunk * self.windows
        self.padded = padded(mixer)
        self.borders = Borders(mixer.terms[0][0].support, mixer.time, self.padded, mixer.device)
        self.buffers = Buffers()
        self.done = 0.0  # the fraction of all entries that has been handed out

    def __iter__(self) -> Iterator[Tile]:
        earlier: list[tuple[Tensor | list[Tensor], list[Maps]]] = []
        for lo in range(0, self.mixer.time, self.size):
            intra, parts = self.generators.block(lo, self.chunk, self.windows)
            yield from self._own(lo, intra)
            length = self.chunk
            for square in self.generators.squares(parts):
                columns = Places(lo, length, square.emit.shape[2], 2 * length)
                rows = Places(lo + length, length, columns.pairs, 2 * length)
                yield from self._cut(square, rows, columns)
                length *= 2
            yield from self._left(lo, [part.emit for part in parts], earlier)
            self.done = min(1.0, ((lo + self.size) / self.mixer.time) ** 2)
            earlier.append(([part.inject for part in parts], [part.maps for part in parts]))

    def _left(self, lo: int, emit: list[Tensor], earlier: list) -> Iterator[Tile]:
        count = min(self.size, self.mixer.time - lo)
        emit = [x[..., :count, :] for x in emit]
        rows = Places(lo, count)
        for k in reversed(range(len(earlier))):
            if self.borders.passed(rows, (k + 1) * self.size):
                return
            inject, through = earlier[k]
            yield from self._cut(self.generators.square(emit, inject), rows, Places(k * self.size, self.size))
            emit = [m.rows(x) for m, x in zip(through, emit, strict=True)]

    def _own(self, lo: int, intra: Tensor) -> Iterator[Tile]:
        """The chunks themselves."""
        places = Places(lo, self.chunk, self.windows, self.chunk)
        causal = torch.ones(self.chunk, self.chunk, dtype=torch.bool, device=intra.device).triu()
        mask = self.borders.within(places, places)
        if mask is False:
            return
        mask = causal.expand(1, 1, 1, -1, -1) if mask is True else mask & causal
        for heads, pairs, _ in self._pieces(intra.shape[1], self.windows, self.chunk, self.chunk):
            own = Places(lo + pairs.start * self.chunk, self.chunk, len(pairs), self.chunk)
            block = intra[:, heads, pairs.start : pairs.stop].mT
            within = mask[:, :, pairs.start : pairs.stop] if mask.shape[2] > 1 else mask
            values = self.buffers.take("values", tuple(block.shape), intra.dtype, intra.device)
            yield self._tile(heads, own, own, "diagonal", values.copy_(block), within)

    def _cut(self, square: Square, rows: Places, columns: Places) -> Iterator[Tile]:
        emit, inject = square.emit, square.inject
        batch, heads, pairs, length, dim = inject.shape
        for group, some, span in self._pieces(heads, pairs, length, emit.shape[3]):
            here = Places(rows.first + some.start * rows.step + span.start, len(span), len(some), rows.step)
            there = Places(columns.first + some.start * columns.step, length, len(some), columns.step)
            mask = self.borders.within(here, there)
            if mask is False:
                continue
            left = inject[:, group, some.start : some.stop].reshape(-1, length, dim)
            right = emit[:, group, some.start : some.stop, span.start : span.stop].reshape(-1, len(span), dim)
            count = group.stop - group.start
            shape = (batch, count, len(some), length, len(span))
            values = self.buffers.take("values", shape, left.dtype, left.device)
            torch.bmm(left, right.mT, out=values.view(-1, length, len(span)))
            yield self._tile(group, here, there, "before", values, None if mask is True else mask)

    def _tile(self, heads: slice, rows: Places, columns: Places, side, values: Tensor, mask: Tensor | None) -> Tile:
        if mask is not None:
            values.masked_fill_(~mask, 0)
        if self.signs or values.is_complex():
            real = values.dtype.to_real()
            size = torch.abs(values, out=self.buffers.take("size", tuple(values.shape), real, values.device))
        else:
            size = values.abs_()
        heads = slice(self.heads.start + heads.start, self.heads.start + heads.stop)
        return Tile(heads, rows, columns, side, size, values if self.signs else None, mask)

    def _pieces(self, heads: int, pairs: int, columns: int, rows: int) -> Iterator[tuple[slice, range, range]]:
        """Heads, pairs and rows whose tiles fit the buffer."""
        most = max(1, TILE // (self.generators.dtype.itemsize * self.mixer.batch))  # entries
        rows_each = min(rows, max(16, most // columns))
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


def shape(mixer: Mixer) -> tuple[int, int]:
    """Tokens a chunk and chunks a block."""
    chunk, windows = max(d.evolution.chunk for d, _ in mixer.terms), 1
    while chunk * windows < min(mixer.time, BLOCK):
        windows *= 2
    return chunk, windows


def padded(mixer: Mixer) -> int:
    """Tokens that totals must have room for."""
    chunk, windows = shape(mixer)
    return (-(-mixer.time // (chunk * windows)) + 1) * chunk * windows


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


def streams(mixer: Mixer, *, signs: bool) -> Iterator[Stream]:
    """The mixer, group of heads by group of heads: their generators stay in the cache, or there is one head."""
    each = mixer.batch * padded(mixer) * mixer.dim * 8
    size = max(1, VECTORS // each)
    for start in range(0, mixer.heads, size):
        group = range(start, min(start + size, mixer.heads))
        yield Stream(mixer.select_heads(group), group, signs=signs)
