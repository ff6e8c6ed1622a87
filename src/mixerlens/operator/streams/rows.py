"""Readouts that are not linear, and normalisers that need whole rows: alpha in blocks of whole rows, in one buffer.

The scores of the identity evolution are one product; of every other one they come as the tiles of ``walk``. What the
readout and the row sum do to them is done in place, columns by rows as tiles are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Identity
from mixerlens.normalizer import NoNormalizer, RowSum
from mixerlens.operator.streams.buffers import Buffers
from mixerlens.operator.streams.skipping import Skipping
from mixerlens.operator.streams.tile import Places, Tile
from mixerlens.operator.streams.walk import Stream, fits
from mixerlens.readout import Exp
from mixerlens.readout import Identity as Linear
from mixerlens.shapes import spread, tile

LEAST, MOST = 8 * 2**20, 32 * 2**20  # bytes of a block of rows: as it should be, and as it may be
FEWEST = 64  # rows a block, if they fit
ROWS = 256  # and no more than this


class Scores:
    """Blocks of one system's scores, for rows in order."""

    def __init__(self, d: CoefficientDynamics, rows: int, buffers: Buffers) -> None:
        self.d, self.rows, self.buffers = d, rows, buffers
        self._tiles: Iterator[Tile] | None = None
        if not isinstance(d.evolution, Identity):
            plain = replace(d, readout=Linear(), normalizer=NoNormalizer())
            skipping = Skipping(plain, 0, None, [])
            stream = Stream(plain, range(d.heads), Buffers(), signs=True, skipping=skipping, block=rows)
            self._tiles = iter(stream)
            self._next: Tile | None = next(self._tiles, None)
        else:
            heads = max(d.query.shape[2], d.key.shape[2])
            self._query, self._key = (
                spread(spread(x.to(d.dtype).transpose(1, 2), heads), d.heads) for x in (d.query, d.key)
            )

    def into(self, out: Tensor, lo: int, hi: int, first: int) -> None:
        """The scores of rows lo .. hi and columns from first on: out (batch, heads, columns, rows)."""
        if self._tiles is None:
            self._product(out, lo, hi, first)
            return
        out.zero_()
        while self._next is not None and self._next.rows.first < hi:
            t = self._next
            assert t.values is not None
            for pair in range(t.rows.pairs):
                row, column = t.rows.first + pair * t.rows.step, t.columns.first + pair * t.columns.step
                rows, columns = min(t.rows.count, hi - row), min(t.columns.count, hi - column)
                if rows > 0 and column + columns > first:
                    skipped = max(first - column, 0)
                    part = t.values[:, :, pair, skipped:columns, :rows]
                    out[:, t.heads, column + skipped - first : column + columns - first, row - lo : row - lo + rows] = (
                        part
                    )
            self._next = next(self._tiles, None)

    def _product(self, out: Tensor, lo: int, hi: int, first: int) -> None:
        d, last = self.d, first + out.shape[2]
        query, key = (
            x if x.shape[2] == 1 else x[:, :, a:b] for x, a, b in ((self._query, lo, hi), (self._key, first, last))
        )
        if d.scaling is not None:
            key = key * tile(d.scaling, first, last).to(d.dtype).unsqueeze(-1)
        shape = (d.batch, d.heads)
        query, key = query.expand(*shape, hi - lo, -1), key.expand(*shape, last - first, -1)
        for b in range(d.batch):
            torch.bmm(key[b], query[b].mT, out=out[b])


class RowStream:
    """The tiles of one group of heads of any mixer, block of rows by block of rows."""

    def __init__(self, mixer: Mixer, heads: range, rows: int, buffers: Buffers) -> None:
        self.mixer, self.heads, self.rows, self.buffers = mixer, heads, rows, buffers
        self.scores = [Scores(d, rows, buffers) for d, _ in mixer.terms]
        self.done = 0.0

    def __iter__(self) -> Iterator[Tile]:
        m = self.mixer
        for lo in range(0, m.time, self.rows):
            hi = min(lo + self.rows, m.time)
            first = min(d.support.first_column(lo) for d, _ in m.terms)
            last = hi if m.causal else m.time
            mask = _mask(m, (lo, hi), (first, last))
            alpha = None
            for n, ((d, weight), scores) in enumerate(zip(m.terms, self.scores, strict=True)):
                part = self._coefficients(n, d, scores, (lo, hi), (first, last))
                part = part if weight is None else weigh(part.mT, weight, lo, hi).mT
                alpha = part if alpha is None else alpha.add_(part) if alpha.dtype == part.dtype else alpha + part
            assert alpha is not None
            positive = len(m.terms) == 1 and m.terms[0][1] is None and isinstance(m.terms[0][0].readout, Exp)
            size = alpha if positive and not alpha.is_complex() else alpha.abs()
            self.done = hi / m.time
            yield from self._cut(size, alpha, mask, (lo, hi), (first, last))

    def _cut(
        self, size: Tensor, alpha: Tensor, mask: Tensor | None, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Iterator[Tile]:
        (lo, hi), (first, last) = rows, columns
        heads, place = slice(self.heads.start, self.heads.stop), Places(lo, hi - lo)
        for side, a, b in (("before", first, lo), ("diagonal", lo, hi), ("after", hi, last)):
            if a >= b:
                continue
            span = slice(a - first, b - first)
            inside = None if mask is None else mask[..., span, :].unsqueeze(2)
            if mask is None and side == "diagonal":
                inside = torch.ones(b - a, hi - lo, dtype=torch.bool, device=size.device).triu()
            yield Tile(
                heads, place, Places(a, b - a), side, size[..., span, :].unsqueeze(2), alpha[..., span, :].unsqueeze(2),
                inside,
            )  # fmt: skip

    def _coefficients(
        self, n: int, d: CoefficientDynamics, scores: Scores, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Tensor:
        (lo, hi), (first, last) = rows, columns
        shape = (d.batch, d.heads, last - first, hi - lo)
        x = self.buffers.take(f"scores {n}", shape, d.query, d.dtype)
        scores.into(x, lo, hi, first)
        if not (isinstance(d.normalizer, RowSum) and d.readout.exponential and not x.is_complex()):
            mask = d.support.mask(rows, columns, d.device)
            shape = torch.Size(x.mT.shape)
            return d.normalizer.coefficients(d.readout, x.mT, mask.expand(*shape[:2], -1, -1), rows).mT
        if not isinstance(d.readout, Exp):
            x.copy_(d.readout.log(x))
        mask = _mask(d, rows, columns)
        if mask is None:
            own = x[..., lo - first :, :]
            own.masked_fill_(torch.ones(hi - lo, hi - lo, dtype=torch.bool, device=x.device).tril(-1), -torch.inf)
        else:
            x.masked_fill_(~mask, -torch.inf)
        peak, sink = x.amax(-2, keepdim=True), d.normalizer.sink_scores(x)
        if sink is not None:
            peak = torch.maximum(peak, sink)
        peak = torch.where(torch.isfinite(peak), peak, 0)  # rows without support
        total = x.sub_(peak).exp_().sum(-2, keepdim=True)
        if sink is not None:
            total = total + torch.exp(sink - peak)
        return x.div_(torch.where(total > 0, total, 1))


def _mask(m: Mixer, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor | None:
    """The support, (batch | 1, 1, columns, rows); None where it is every column up to the row."""
    supports = [d.support for d, _ in m.terms]
    if all(s.causal and s.window is None and s.segments is None for s in supports):
        return None
    inside = [s.mask(rows, columns, m.device) for s in supports]
    union = inside[0]
    for other in inside[1:]:
        union = union | other
    return union.mT


def row_streams(mixer: Mixer) -> Iterator[RowStream]:
    """The mixer, group of heads by group of heads."""
    row = mixer.batch * mixer.time * mixer.dtype.itemsize  # bytes a head
    rows = ROWS
    while rows > FEWEST and rows * row > LEAST:
        rows //= 2
    while rows > 16 and rows * row > MOST:
        rows //= 2
    wanted = max((d.evolution.chunk for d, _ in mixer.terms if not isinstance(d.evolution, Identity)), default=1)
    rows = max(rows, wanted)
    size, buffers = max(1, LEAST // (rows * row)), Buffers()
    for start in range(0, mixer.heads, size):
        group = range(start, min(start + size, mixer.heads))
        yield RowStream(mixer.select_heads(group), group, rows, buffers)


def rows_fit(mixer: Mixer) -> bool:
    """Whether the scores of every part can be formed here: those that evolve need supports in runs."""
    return all(
        isinstance(d.evolution, Identity) or fits(replace(d, readout=Linear(), normalizer=NoNormalizer()))
        for d, _ in mixer.terms
    )
