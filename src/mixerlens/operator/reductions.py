"""Summaries of |alpha| (and pooled maps of alpha): any number of them in one pass over its tiles.

Time O(L^2) a pass, memory O(L). Rows and columns without mass are legal; entries off the support count as zeros. Sums
of many terms are formed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.composition import Mixer
from mixerlens.errors import InputError
from mixerlens.operator import streams
from mixerlens.operator.memory import require
from mixerlens.operator.streams import TERMS, Bounded, Missing, Places, Side, Skipping, ThinTile, Tile
from mixerlens.operator.tiles import RowBlock, RowTiles
from mixerlens.subnormals import subnormals_as_zero


class Reduction(Protocol):
    """One summary: sees every row block once, then says its result."""

    def start(self, d: Any) -> None:
        """Before the first block; d is the mixer, of one system or a sum."""

    def update(self, block: RowBlock, size: Tensor) -> None:
        """One row block; size is |coefficients|, shared by all summaries of the pass."""

    def result(self) -> Tensor | tuple[Tensor, Tensor]: ...


class Summary:
    """A summary that takes alpha in tiles of any shape, each row's from near to far."""

    signs = False  # whether alpha is needed beside |alpha|
    sums = False  # whether sums over the rows and columns of a tile are enough

    def start(self, d: Mixer) -> None:
        raise NotImplementedError

    def add(self, tile: Tile) -> None:
        raise NotImplementedError

    def result(self) -> Tensor | tuple[Tensor, Tensor]:
        raise NotImplementedError

    def bound(self, missing: Missing) -> Tensor:
        """How far each number of the result may be from that of all of alpha."""
        raise NotImplementedError

    def bounded(self, missing: Missing) -> Bounded:
        value = self.result()
        assert isinstance(value, Tensor)
        return Bounded(value, self.bound(missing))

    def update(self, block: RowBlock, size: Tensor) -> None:
        for tile in cut(block, size):
            self.add(tile)


def reduce(
    d: Mixer,
    wanted: Sequence[Reduction],
    progress: Callable[[float], None] | None = None,
    skip: float | None = None,
) -> list[Tensor | tuple[Tensor, Tensor]]:
    """All the wanted summaries in one pass; ``progress`` is told the fraction done.

    skip: leave out what is certified to be small: tiles none of whose entries |alpha_ij| exceeds ``skip`` times the
    mass that row i has nearer to i; where sums are all that is wanted, also all state dimensions but one or two of a
    tile if what they add to its entries is as small. Results are then ``Bounded``: (value, missing), with missing an
    upper bound of what this changes, number by number; rounding of the value is not part of it. Top-k stays exact and
    is given as it is. Only linear readouts have such bounds; everything else is computed in full, with nothing missing.
    """
    if skip is not None and not 0 <= skip < 1:
        raise InputError(f"skip is {skip}: it is relative to the mass of a row, so 0 <= skip < 1")
    for reduction in wanted:
        if isinstance(reduction, type):
            raise InputError(f"{reduction.__name__} is a class: give a summary, {reduction.__name__}(...)")
        reduction.start(d)
    summaries = [r for r in wanted if isinstance(r, Summary)]
    if skip is not None and len(summaries) < len(wanted):
        raise InputError("skip needs summaries of this module: a reduction of your own has no bound to give")
    plain = len(summaries) == len(wanted) and not _differentiated(d)
    if plain and streams.fits(d):
        missing = _streamed(d, summaries, progress, skip)
    else:
        missing = Missing(d, streams.padded(d))
        if plain and streams.rows_fit(d):
            _run(d, streams.row_streams(d), summaries, progress)
        else:
            _by_rows(d, wanted, progress)
    if skip is None:
        return [reduction.result() for reduction in wanted]
    return [r.result() if isinstance(r, TopK) else r.bounded(missing) for r in summaries]


def _by_rows(d: Mixer, wanted: Sequence[Reduction], progress: Callable[[float], None] | None) -> None:
    for block in RowTiles(d):
        size = block.coefficients.abs()
        for reduction in wanted:
            reduction.update(block, size)
        if progress is not None:
            progress((block.heads.start + len(block.heads) * block.hi / d.time) / d.heads)


def _streamed(
    d: Mixer, summaries: list[Summary], progress: Callable[[float], None] | None, skip: float | None
) -> Missing:
    largest = [r.needless for r in summaries if isinstance(r, TopK)]
    exact = skip is None and len(largest) < len(summaries)  # a sum needs every tile
    sums = all(r.sums for r in summaries)
    skipping = Skipping(d, streams.padded(d), skip, [] if exact else largest, thin=sums)
    signs = any(r.signs for r in summaries)
    summed = sums and not largest
    _run(d, streams.streams(d, signs=signs, skipping=skipping, summed=summed), summaries, progress)
    return skipping.missing


def _run(
    d: Mixer,
    groups: Iterator[streams.Stream] | Iterator[streams.RowStream],
    summaries: list[Summary],
    progress: Callable[[float], None] | None,
) -> None:
    """Hand every tile to every summary."""
    with torch.no_grad(), subnormals_as_zero():
        for stream in groups:
            told = -1.0
            for tile in stream:
                for summary in summaries:
                    summary.add(tile)
                if progress is not None and stream.done > told:
                    told = stream.done
                    progress((stream.heads.start + len(stream.heads) * told) / d.heads)
            if progress is not None:
                progress(stream.heads.stop / d.heads)


def _differentiated(mixer: Mixer) -> bool:
    """Whether somebody may ask for a gradient."""
    if not torch.is_grad_enabled():
        return False
    for d, weight in mixer.terms:
        own = [d.query, d.key, d.scaling, weight, *d.evolution.tensors().values(), *vars(d.normalizer).values()]
        if any(isinstance(x, Tensor) and x.requires_grad for x in own):
            return True
    return False


def cut(block: RowBlock, size: Tensor) -> Iterator[Tile]:
    """A block of whole rows as tiles: the columns before the rows, the rows' own, and those after them."""
    heads, rows = slice(block.heads.start, block.heads.stop), Places(block.lo, block.hi - block.lo)
    sides: list[tuple[Side, int, int]]
    sides = [("before", block.first, block.lo), ("diagonal", block.lo, block.hi), ("after", block.hi, block.last)]
    for side, lo, hi in sides:
        if lo < hi:
            inside = slice(lo - block.first, hi - block.first)
            parts = (x[..., inside].mT.unsqueeze(2) for x in (size, block.coefficients, block.mask))
            yield Tile(heads, rows, Places(lo, hi - lo), side, *parts)


def _zeros(d: Mixer, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.zeros(d.batch, d.heads, *shape, dtype=dtype, device=d.device)


class _Total(Summary):
    """A number a token: (batch, time, heads)."""

    sums = True

    def start(self, d: Mixer) -> None:
        self.time, self.dtype = d.time, d.dtype.to_real()
        self.total = _zeros(d, streams.padded(d))

    def result(self) -> Tensor:
        return self._told(self.total)

    def _told(self, x: Tensor) -> Tensor:
        return x[..., : self.time].transpose(1, 2).to(self.dtype)


class RowMass(_Total):
    """sum_j |alpha_ij|: (batch, time, heads)."""

    def bound(self, missing: Missing) -> Tensor:
        return self._told(missing.row)

    def add(self, tile: Tile) -> None:
        tile.rows.of(self.total[:, tile.heads]).add_(tile.row_mass)


class ColumnMass(_Total):
    """sum_i |alpha_ij|: (batch, time, heads)."""

    def bound(self, missing: Missing) -> Tensor:
        return self._told(missing.column)

    def add(self, tile: Tile) -> None:
        tile.columns.of(self.total[:, tile.heads]).add_(tile.column_mass)


class MeanDistance(_Total):
    """sum_j |alpha_ij| |i - j| / sum_j |alpha_ij| in tokens: (batch, time, heads); NaN where a row has no mass."""

    def start(self, d: Mixer) -> None:
        super().start(d)
        self.moment = torch.zeros_like(self.total)

    def add(self, tile: Tile) -> None:
        mass, moment = tile.row_sums
        tile.rows.of(self.total[:, tile.heads]).add_(mass)
        tile.rows.of(self.moment[:, tile.heads]).add_(moment)

    def result(self) -> Tensor:
        return self._told(self.moment / self.total)

    def bound(self, missing: Missing) -> Tensor:
        """What was left out lies between 0 and i tokens away and moves the mean by at most its share of the way."""
        mean, token = self.moment / self.total, torch.arange(self.total.shape[-1], device=self.total.device)
        way, lost = torch.maximum(mean, token - mean), missing.row
        return self._told((lost / (self.total - lost).clamp(min=0)).nan_to_num(0.0).clamp(max=1) * way)


class MassByLag(Summary):
    """sum over rows of |alpha_{i, i-l}| for each lag l (|i - j| when bidirectional): (batch, heads, time)."""

    def start(self, d: Mixer) -> None:
        self.time, self.dtype, self.middle = d.time, d.dtype.to_real(), streams.padded(d)
        self.total = _zeros(d, 2 * self.middle)  # i - j = l at middle + l

    def add(self, tile: Tile) -> None:
        """A lag is a column of the tile's rows skewed: column c of the tile moves left by c.

        The skew is a view of the columns written with gaps of zeros between them, ``TERMS`` columns together.
        """
        for own in tile.by_head():
            self._add(own)

    def _add(self, tile: Tile) -> None:
        columns, rows = tile.size.shape[-2:]
        total = self.total[:, tile.heads]
        for lo in range(0, columns, TERMS):
            terms = min(TERMS, columns - lo)
            part = (
                tile.size[..., lo : lo + terms, :].sum(2)
                if tile.rows.pairs > 1
                else tile.size[:, :, 0, lo : lo + terms]
            )
            gapped = pad(pad(part, (0, terms - 1)).flatten(-2), (terms - 1, 0))
            pitch = rows + terms - 1
            *steps, _ = gapped.stride()
            skewed = gapped.as_strided((*gapped.shape[:-1], terms, pitch), (*steps, pitch + 1, 1))
            start = self.middle + tile.rows.first - (tile.columns.first + lo) - (terms - 1)
            total[..., start : start + pitch] += skewed.sum(-2)

    def result(self) -> Tensor:
        total = self.total[..., self.middle : self.middle + self.time].clone()
        total[..., 1:] += self.total[..., self.middle - self.time + 1 : self.middle].flip(-1)
        return total.to(self.dtype)

    def bound(self, missing: Missing) -> Tensor:
        return missing.by_lag[..., : self.time].to(self.dtype)


class TopK(Summary):
    """The k entries of largest |alpha| in every row: values and column indices, both (batch, time, heads, k).

    Sorted by |alpha|; where the support of a row has fewer than k entries the index is -1 and the value 0.
    """

    signs, sums = True, True  # tiles of sums are made only where no entry is ``needless``

    def __init__(self, k: int) -> None:
        if not isinstance(k, int) or k < 1:
            raise InputError(f"k is {k!r}: ask for a whole number of entries a row, at least one")
        self.k = k

    def start(self, d: Mixer) -> None:
        self.time, long = d.time, streams.padded(d)
        self.values = _zeros(d, long, self.k, dtype=d.coefficient_dtype)
        self.sizes = torch.full_like(self.values, -1, dtype=d.dtype.to_real())
        self.indices = torch.full(self.values.shape, -1, dtype=torch.long, device=d.device)
        self.least = self.sizes[..., -1].clone()  # what an entry must exceed to be among a row's k largest

    def needless(self, heads: slice, rows: Places, bound: Tensor) -> Tensor:
        """The rows that entries of at most this size cannot change: (batch, heads, rows)."""
        return bound <= rows.of(self.least[:, heads])[:, :, 0]

    def add(self, tile: Tile) -> None:
        if isinstance(tile, ThinTile):  # asked before: see ``needless``
            return
        for own in tile.by_head():
            self._add(own)

    def _add(self, tile: Tile) -> None:
        assert tile.values is not None
        size = tile.size.detach()
        if tile.mask is not None:
            size = torch.where(tile.mask, size, -1.0)
        better = size.amax(-2) > tile.rows.of(self.least[:, tile.heads])
        if not bool(better.any()):
            return
        batch, head, pair, row = better.nonzero(as_tuple=True)
        found, index = size[batch, head, pair, :, row].topk(min(self.k, size.shape[-2]), -1)
        values = tile.values[batch, head, pair, :, row].gather(-1, index)
        index = index + (tile.columns.first + pair * tile.columns.step)[:, None]
        where = (batch, head + tile.heads.start, tile.rows.first + pair * tile.rows.step + row)
        self.sizes[where], order = torch.cat([self.sizes[where], found], -1).topk(self.k, -1)
        self.indices[where] = torch.cat([self.indices[where], index], -1).gather(-1, order)
        self.values[where] = torch.cat([self.values[where], values], -1).gather(-1, order)
        self.least[where] = self.sizes[where][:, -1]

    def result(self) -> tuple[Tensor, Tensor]:
        empty = self.sizes < 0
        values, indices = torch.where(empty, 0, self.values), torch.where(empty, -1, self.indices)
        return values[:, :, : self.time].transpose(1, 2), indices[:, :, : self.time].transpose(1, 2)


def room_for_map(d: Mixer, pixels: int) -> None:
    """Raise MemoryBudgetError unless a map of pixels x pixels fits, and the one that it is turned into."""
    require("heatmap", d.batch, d.heads, pixels, pixels, dtype=torch.float64, copies=2, instead="ask for fewer pixels")


class Heatmap(Summary):
    """Mean of |alpha| (signed: of alpha) over each of pixels x pixels cells: (batch, heads, pixels, pixels).

    Cell p covers the tokens from floor(p T / pixels) up to the next cell's, and at least one token.
    """

    def __init__(self, pixels: int, signed: bool = False) -> None:
        if not isinstance(pixels, int) or pixels < 1:
            raise InputError(f"pixels is {pixels!r}: ask for a whole number, at least one")
        self.pixels, self.signs = pixels, signed

    def start(self, d: Mixer) -> None:
        room_for_map(d, self.pixels)
        self.dtype = d.coefficient_dtype if self.signs else d.dtype.to_real()
        pixel = torch.arange(self.pixels, device=d.device)
        self.begin = pixel * d.time // self.pixels
        self.end = torch.maximum((pixel + 1) * d.time // self.pixels, self.begin + 1)
        kind = torch.promote_types(self.dtype, torch.float64)
        self.total = _zeros(d, self.pixels, self.pixels, dtype=kind)

    def add(self, tile: Tile) -> None:
        for own in tile.by_head():
            self._add(own)

    def _add(self, tile: Tile) -> None:
        part = tile.values if self.signs else tile.size
        assert part is not None
        (above, rows), (left, columns) = (self._cells(x, part.dtype) for x in (tile.rows, tile.columns))
        if above.start == above.stop or left.start == left.stop:
            return
        pooled = torch.zeros((), dtype=self.total.dtype, device=part.device)
        for lo in range(0, part.shape[-2], TERMS):  # few terms in the working precision
            some = part[..., lo : lo + TERMS, :]
            pooled = pooled + (columns[..., lo : lo + TERMS] @ some).to(
                self.total.dtype
            )  # (batch, heads, pairs, cells, rows)
        pooled = (pooled @ rows.to(self.total.dtype).mT).sum(2).mT
        self.total[:, tile.heads, above, left] += pooled

    def _cells(self, places: Places, dtype: torch.dtype) -> tuple[slice, Tensor]:
        """The cells that meet these tokens, and membership (pairs, cells, tokens)."""
        meets = (self.begin < places.stop) & (self.end > places.first)
        hit = meets.nonzero()[:, 0]
        if not len(hit):
            return slice(0, 0), hit
        cells = slice(int(hit[0]), int(hit[-1]) + 1)
        token = places.tokens(self.begin.device)[:, None]
        inside = (token >= self.begin[cells, None]) & (token < self.end[cells, None])
        return cells, inside.to(dtype)

    def result(self) -> Tensor:
        count = (self.end - self.begin).to(torch.float64)
        return (self.total / (count[:, None] * count)).to(self.dtype)

    def bound(self, missing: Missing) -> Tensor:
        """The largest entry left out of any row of a cell bounds what the mean over the cell has lost."""
        rows = [missing.entry[..., a:b].amax(-1) for a, b in zip(self.begin.tolist(), self.end.tolist(), strict=True)]
        return torch.stack(rows, -1).unsqueeze(-1).expand_as(self.total).to(self.dtype.to_real())
