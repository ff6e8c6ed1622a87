"""Readouts that are not linear, and normalisers that need whole rows: alpha in blocks of whole rows, in one buffer.

The scores of the identity evolution are one product; of every other one they come as the tiles of ``walk``. What the
readout and the row sum do to them is done in place, columns by rows as tiles are stored.
"""

from __future__ import annotations

import math
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
from mixerlens.operator.streams.tile import Places, SharedTile, Side, Tile
from mixerlens.operator.streams.walk import Stream, fits
from mixerlens.readout import Exp, Softcap
from mixerlens.readout import Identity as Linear
from mixerlens.shapes import spread, tile

LEAST, MOST = 8 * 2**20, 32 * 2**20  # bytes of a block of rows: as it should be, and as it may be
FEWEST = 64  # rows a block, if they fit
TAME = 40.0  # exp of scores up to this size needs no shift: sums of 1e17 and terms of 1e-18 are no matter
ROWS = 256  # and no more than this


class Scores:
    """Blocks of one system's scores, for rows in order."""

    def __init__(self, d: CoefficientDynamics, rows: int) -> None:
        self.d, self.rows = d, rows
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
            longest = torch.linalg.vector_norm(d.key, dim=-1).amax()
            self._longest = float(longest if d.scaling is None else longest * d.scaling.abs().amax())

    def largest(self, lo: int, hi: int) -> float:
        """No logarithm of phi of these rows is larger in size."""
        readout = self.d.readout
        if isinstance(readout, Softcap):
            return readout.cap
        if self._tiles is not None or not isinstance(readout, Exp):
            return math.inf
        query = self._query if self._query.shape[2] == 1 else self._query[:, :, lo:hi]
        return float(torch.linalg.vector_norm(query, dim=-1).amax()) * self._longest

    def into(self, out: Tensor, lo: int, hi: int, first: int) -> None:
        """The scores of rows lo .. hi and columns from first on: out (batch, heads, columns, rows)."""
        if self._tiles is None:
            self._product(out, lo, hi, first)
            return
        out.zero_()
        # behind the last token lies padding, whose tiles come before others of the last rows
        while self._next is not None and (self._next.rows.first < hi or hi == self.d.time):
            for own in self._next.by_head():
                self._place(own, out, lo, hi, first)
            self._next = next(self._tiles, None)

    @staticmethod
    def _place(t: Tile, out: Tensor, lo: int, hi: int, first: int) -> None:
        """Puts what the tile has of rows up to hi and columns from first on where it belongs."""
        assert t.values is not None
        for pair in range(t.rows.pairs):
            row, column = t.rows.first + pair * t.rows.step, t.columns.first + pair * t.columns.step
            rows, columns = min(t.rows.count, hi - row), min(t.columns.count, hi - column)
            if rows > 0 and column + columns > first:
                skipped = max(first - column, 0)
                place = out[:, t.heads, column + skipped - first : column + columns - first, row - lo : row - lo + rows]
                place.copy_(t.values[:, :, pair, skipped:columns, :rows])

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
        self.scores = [Scores(d, rows) for d, _ in mixer.terms]
        self.done = 0.0

    def __iter__(self) -> Iterator[Tile]:
        m = self.mixer
        for lo in range(0, m.time, self.rows):
            hi = min(lo + self.rows, m.time)
            first = min(d.support.first_column(lo) for d, _ in m.terms)
            last = hi if m.causal else m.time
            mask = _mask(m, (lo, hi), (first, last))
            (head, first_weight), *more = m.terms
            alpha, share = self._coefficients(0, (lo, hi), (first, last))
            if more or first_weight is not None:
                alpha, share = self._added(alpha, share, (lo, hi), (first, last)), None
            size = alpha if head.readout.exponential and share is not None else alpha.abs()
            self.done = hi / m.time
            yield from self._cut(size, alpha, share, mask, (lo, hi), (first, last))

    def _added(self, alpha: Tensor, share: Tensor | None, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """The weighted sum of all parts; the first is given."""
        total = None
        for n, (_, weight) in enumerate(self.mixer.terms):
            part, part_share = (alpha, share) if n == 0 else self._coefficients(n, rows, columns)
            part = part if part_share is None else part * part_share.to(part.dtype)
            part = weigh(part.mT, weight, *rows).mT
            total = part if total is None else total + part
        assert total is not None
        return total

    def _cut(
        self,
        size: Tensor,
        alpha: Tensor,
        share: Tensor | None,
        mask: Tensor | None,
        rows: tuple[int, int],
        columns: tuple[int, int],
    ) -> Iterator[Tile]:
        (lo, hi), (first, last) = rows, columns
        heads, place = slice(self.heads.start, self.heads.stop), Places(lo, hi - lo)
        sides: list[tuple[Side, int, int]] = [("before", first, lo), ("diagonal", lo, hi), ("after", hi, last)]
        for side, a, b in sides:
            if a >= b:
                continue
            span = slice(a - first, b - first)
            inside = None if mask is None else mask[..., span, :].unsqueeze(2)
            if mask is None and side == "diagonal":
                inside = torch.ones(b - a, hi - lo, dtype=torch.bool, device=size.device).triu()
            own = (heads, place, Places(a, b - a), side)
            parts = (size[..., span, :].unsqueeze(2), alpha[..., span, :].unsqueeze(2), inside)
            if share is None or side == "diagonal":  # of which there is little
                scale = 1 if share is None else share.unsqueeze(-2).to(size.dtype)
                yield Tile(*own, parts[0] * scale, parts[1] * scale, inside)
            else:
                ones = torch.ones(1, 1, 1, 1, dtype=torch.float64, device=size.device)
                shape = (size.shape[0], size.shape[1], 1, b - a)
                yield SharedTile(*own, *parts, share, ones.expand(shape))

    def _coefficients(self, n: int, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """The n-th part's coefficients, columns by rows; where a second tensor (batch, heads, 1, rows) is given, times
        it: what an exponential readout is divided by stays beside it."""
        (lo, hi), (first, last), d, scores = rows, columns, self.mixer.terms[n][0], self.scores[n]
        shape = (d.batch, d.heads, last - first, hi - lo)
        x = self.buffers.take(f"scores {n}", shape, d.query, d.dtype)
        scores.into(x, lo, hi, first)
        if not (isinstance(d.normalizer, RowSum) and d.readout.exponential and not x.is_complex()):
            mask = d.support.mask(rows, columns, d.device)
            return d.normalizer.coefficients(d.readout, x.mT, mask.expand(*shape[:2], -1, -1), rows).mT, None
        if not isinstance(d.readout, Exp):
            x.copy_(d.readout.log(x))
        mask = _mask(d, rows, columns)
        if mask is None:
            own = x[..., lo - first :, :]
            own.masked_fill_(torch.ones(hi - lo, hi - lo, dtype=torch.bool, device=x.device).tril(-1), -torch.inf)
        else:
            x.masked_fill_(~mask, -torch.inf)
        sink, shift = d.normalizer.sink_scores(x), torch.zeros((), dtype=x.dtype, device=x.device)
        if scores.largest(lo, hi) > TAME or (sink is not None and bool((sink.abs() > TAME).any())):
            shift = x.amax(-2, keepdim=True)
            shift = shift if sink is None else torch.maximum(shift, sink)
            shift = torch.where(torch.isfinite(shift), shift, 0)  # rows without support
            x.sub_(shift)
        total = x.exp_().sum(-2, keepdim=True)
        if sink is not None:
            total = total + torch.exp(sink - shift)
        return x, 1 / torch.where(total > 0, total, 1).to(torch.float64)


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
