"""Any readout: alpha in blocks of whole rows, streamed, never length x length at once.

The scores of a row block against an earlier chunk are Z inject^T, where Z = emit times the carries in between; walking
back chunk by chunk costs Z <- Z carry. Whole rows are what a row-sum normaliser needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Factors, Identity
from mixerlens.operator.memory import TEMPORARY
from mixerlens.shapes import spread, tile, wide


@dataclass(frozen=True)
class RowBlock:
    """alpha[lo:hi, first:last] of the given heads: coefficients (batch, heads, hi - lo, last - first).

    Columns outside first <= j < last are zero in every row of the block. ``mask`` marks the support.
    """

    heads: range
    lo: int
    hi: int
    first: int
    last: int
    coefficients: Tensor
    mask: Tensor

    def lags(self) -> Tensor:
        """i - j: (rows, columns)."""
        device = self.coefficients.device
        i, j = torch.arange(self.lo, self.hi, device=device), torch.arange(self.first, self.last, device=device)
        return i[:, None] - j[None, :]


class _Term:
    """The row blocks of one system; its chunk factors are kept."""

    def __init__(self, dynamics: CoefficientDynamics) -> None:
        self.dynamics = dynamics
        self.rows = dynamics.evolution.chunk
        self._factors: dict[int, Factors] = {}

    def block(self, lo: int, hi: int, heads: range) -> RowBlock:
        d = self.dynamics
        last = hi if d.support.causal else d.time
        if isinstance(d.evolution, Identity):  # every column in one product
            first = d.support.first_column(lo)
            scores = self._plain_scores(lo, hi, first, last)
        else:
            first, scores = self._swept_scores(lo, hi)
        mask = d.support.mask((lo, hi), (first, last), d.device)
        shape = torch.broadcast_shapes(scores.shape, mask.shape)
        alpha = d.normalizer.coefficients(d.readout, scores.expand(shape), mask, (lo, hi))
        return RowBlock(heads, lo, hi, first, last, alpha, mask)

    def _plain_scores(self, lo: int, hi: int, first: int, last: int) -> Tensor:
        d = self.dynamics
        query, key = tile(d.query, lo, hi).to(d.dtype), tile(d.key, first, last).to(d.dtype)
        groups = max(query.shape[1], key.shape[1])
        scores = spread(spread(query, groups) @ spread(key, groups).mT, d.heads)
        if d.scaling is not None:
            scores = scores * tile(d.scaling, first, last).to(d.dtype).unsqueeze(-2)
        return scores.expand(d.batch, d.heads, -1, -1)

    def _swept_scores(self, lo: int, hi: int) -> tuple[int, Tensor]:
        d = self.dynamics
        start = lo - lo % self.rows
        here = self._chunk(start, hi)
        read, parts = wide(here.emit[..., lo - start :, :]), [here.intra[..., lo - start :, :]]
        nearest, first = d.support.first_column(lo), start
        for left in range(start - self.rows, -1, -self.rows):
            if left + self.rows <= nearest:
                break
            earlier = self._chunk(left, left + self.rows)
            parts.append(read.to(d.dtype) @ earlier.inject.mT)
            read, first = earlier.carry.backward(read), left
        shape = (d.batch, d.heads, hi - lo)
        return first, torch.cat([p.expand(*shape, -1) for p in reversed(parts)], -1)

    def _chunk(self, lo: int, hi: int) -> Factors:
        """The factors of one chunk; only whole chunks are asked for twice, so only they are kept."""
        if hi - lo < self.rows:
            return self.dynamics.factors(lo, hi)
        if lo not in self._factors:
            self._factors[lo] = self.dynamics.factors(lo, hi)
        return self._factors[lo]


class RowTiles:
    """Streams the row blocks of one mixer, group of heads by group of heads."""

    def __init__(self, mixer: Mixer) -> None:
        self.mixer = mixer
        self._terms = [(_Term(d), weight) for d, weight in mixer.terms]
        self.rows = math.gcd(*(term.rows for term, _ in self._terms))  # a block lies in one chunk of every term

    def block(self, lo: int, hi: int, heads: range | None = None) -> RowBlock:
        """Rows lo <= i < hi, which must lie in one chunk of the grid."""
        heads = range(self.mixer.heads) if heads is None else heads
        return _added([(term.block(lo, hi, heads), weight) for term, weight in self._terms])

    def __iter__(self) -> Iterator[RowBlock]:
        m = self.mixer
        for group in head_groups(m, self.rows):
            part = self if len(group) == m.heads else RowTiles(m.select_heads(group))
            for lo in range(0, m.time, self.rows):
                yield part.block(lo, min(lo + self.rows, m.time), group)


def _added(blocks: list[tuple[RowBlock, Tensor | None]]) -> RowBlock:
    """The weighted sum of blocks of the same rows, over the columns that any of them has."""
    (start, weight), *rest = blocks
    if not rest and weight is None:
        return start
    first, last = min(b.first for b, _ in blocks), max(b.last for b, _ in blocks)

    def across(x: Tensor, b: RowBlock) -> Tensor:
        return pad(x, (b.first - first, last - b.last))

    alpha = reduce(torch.add, (weigh(across(b.coefficients, b), w, b.lo, b.hi) for b, w in blocks))
    mask = reduce(torch.logical_or, (across(b.mask, b) for b, _ in blocks))
    return RowBlock(start.heads, start.lo, start.hi, first, last, alpha, mask)


def head_groups(mixer: Mixer, rows: int) -> Iterator[range]:
    """Heads in groups whose row blocks and chunk factors stay small."""
    m = mixer
    widest = max(rows * m.time, 3 * m.time * m.dim)
    size = max(1, TEMPORARY // (m.batch * widest * m.dtype.itemsize))
    for start in range(0, m.heads, size):
        yield range(start, min(start + size, m.heads))
