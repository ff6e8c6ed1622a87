"""Which tiles need not be computed, and how much of |alpha| was left out at most.

A tile's entries are products of a row's generators, carried to the tile, and a column's. With sizes |z_n|, |x_n| (norms
where the carries are dense) |alpha_ij| <= sum_n |z_in| max_j |x_jn|, and all tiles further back are bounded by one
recursion over blocks, M_J = max(max_j |x_jn|, |carry_Jn| M_{J-1,n}): what shrinks is left out early, what grows never.
Sums instead of largest entries bound the mass, and the transposed recursion bounds it column by column. Bounds are
computed in float64 and widened by more than the rounding of the factors they are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.operator.streams.generators import Source, factors
from mixerlens.operator.streams.tile import Places, Tile

Needless = Callable[[slice, Places, Tensor], Tensor]


class Bounded(NamedTuple):
    """A summary of what was computed, and how far it may be from that of all of alpha, entry by entry."""

    value: Tensor
    missing: Tensor


class Missing:
    """Upper bounds of what was left out. row, column: the mass of each (batch, heads, padded time). entry: the largest
    |alpha_ij| of each row. by_lag: the mass at each lag."""

    def __init__(self, mixer: Mixer, padded: int) -> None:
        self.time = mixer.time
        shape = (mixer.batch, mixer.heads, padded)
        self.row, self.column, self.entry, self._edges = (
            torch.zeros(shape, dtype=torch.float64, device=mixer.device) for _ in range(4)
        )

    def add_lags(self, heads: slice, first: int, last: int, mass: Tensor) -> None:
        """At most ``mass`` (batch, heads) at each lag first .. last."""
        self._edges[:, heads, max(first, 0)] += mass
        self._edges[:, heads, last + 1] -= mass

    @property
    def by_lag(self) -> Tensor:
        # differences of sums round: what they may have lost is added again
        total = self._edges.cumsum(-1).clamp(min=0)
        return total + 1e-12 * self._edges.abs().cumsum(-1)


class Skipping:
    """Leaves out tiles no entry of which exceeds ``share`` of the mass its row has nearer by.

    share: None computes everything, unless ``needless`` says otherwise. needless: asked for the rows whose tile cannot
    matter given a bound of every entry, (heads, places, bound (batch, heads, rows)) -> (batch, heads, rows) bool; a
    tile is left out only where all agree.
    """

    def __init__(self, mixer: Mixer, padded: int, share: float | None, needless: list[Needless]) -> None:
        self.share, self.needless = share, needless
        self.wanted = share is not None or bool(needless)
        self.missing = Missing(mixer, padded if share is not None else 0)
        self._met = torch.zeros_like(self.missing.row)
        self._near: dict[int, Tensor] = {}  # row sizes by the block whose columns they did not meet
        self._far: dict[int, Tensor] = {}  # the same for all blocks up to this one

    def saw(self, tile: Tile) -> None:
        if self.share is not None:
            tile.rows.of(self._met[:, tile.heads]).add_(tile.row_mass)

    def ask(
        self, source: Source, heads: range, lo: int, spans: list[range], k: int, columns: Places
    ) -> tuple[list[range], list[range]]:
        """Of the spans of rows that walk back, those that go on beyond block k and those that meet it."""
        if not self.wanted or not spans:
            return spans, spans
        reach = source.earlier[k].reach
        assert reach is not None
        sizes = source.sizes()
        bounds = (sizes @ reach)[:, :, 0]  # (batch, heads, tokens, 4)
        place, group = Places(lo, spans[-1].stop), slice(heads.start, heads.stop)
        entry, rest = (self._negligible(group, place, bounds[:, :, : place.count, n]) for n in (0, 2))
        walking, meeting = [], []
        for span in spans:
            inside = slice(span.start, span.stop)
            if bool(rest[..., inside].all()):
                self._leave(group, lo, span, bounds[:, :, inside, 2:], sizes, k, (0, columns.stop), self._far)
                continue
            walking.append(span)
            if bool(entry[..., inside].all()):
                self._leave(
                    group, lo, span, bounds[:, :, inside, :2], sizes, k, (columns.first, columns.stop), self._near
                )
            else:
                meeting.append(span)
        return walking, meeting

    def _negligible(self, heads: slice, rows: Places, bound: Tensor) -> Tensor:
        small = torch.ones_like(bound, dtype=torch.bool)
        if self.share is not None:
            small = bound <= self.share * rows.of(self._met[:, heads])[:, :, 0]
        for needless in self.needless:
            small = small & needless(heads, rows, bound)
        return small

    def _leave(
        self, heads: slice, lo: int, span: range, bounds: Tensor, sizes: Tensor, k: int, columns: tuple[int, int],
        left: dict[int, Tensor],
    ) -> None:  # fmt: skip
        if self.share is None:  # exact all the same
            return
        entry, mass = bounds.unbind(-1)
        rows = slice(lo + span.start, lo + span.stop)
        self.missing.row[:, heads, rows] += mass
        self.missing.entry[:, heads, rows] = torch.maximum(self.missing.entry[:, heads, rows], entry)
        self.missing.add_lags(heads, rows.start - columns[1] + 1, rows.stop - 1 - columns[0], entry.sum(-1))
        total = sizes[:, :, 0, span.start : span.stop].sum(-2)
        left[k] = left[k] + total if k in left else total

    def finish(self, source: Source, heads: range) -> None:
        """What columns may have lost: the rows' sizes, summed, walk back to them."""
        if self.share is not None and source.earlier:
            group, carried = slice(heads.start, heads.stop), 0
            tokens = source.earlier[0].columns.shape[-2] if source.earlier[0].columns is not None else 0
            for k in reversed(range(len(source.earlier))):
                block = source.earlier[k]
                assert block.columns is not None
                carried = carried + self._far[k] if k in self._far else carried
                here = carried + self._near[k] if k in self._near else carried
                if not isinstance(here, Tensor):
                    continue
                bound = (block.columns[:, :, 0] * here.unsqueeze(-2)).sum(-1) * (1 + source.rounding)
                self.missing.column[:, group, k * tokens : (k + 1) * tokens] += bound
                if isinstance(carried, Tensor):
                    carried = carried * factors(block.maps, carried.unsqueeze(2))[:, :, 0] * (1 + source.rounding)
        self._near, self._far = {}, {}
