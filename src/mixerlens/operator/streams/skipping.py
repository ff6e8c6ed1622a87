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
from torch.nn.functional import pad

from mixerlens.composition import Mixer
from mixerlens.operator.streams.generators import Source
from mixerlens.operator.streams.tile import Places, Tile

FAR = (0, 2)  # fates of rows that decide about all blocks from here on: see ``_fates``
AGAIN = 8  # where nothing could be left out, every so many blocks of rows ask again

Needless = Callable[[slice, Places, Tensor], Tensor]


class Bounded(NamedTuple):
    """A summary of what was computed, and how far what was left out may have moved it, number by number. The rounding
    of the value itself (1e-6 of it in float32) is not part of ``missing``."""

    value: Tensor
    missing: Tensor


class Missing:
    """Upper bounds of what was left out. row, column: the mass of each (batch, heads, padded time). entry: the largest
    |alpha_ij| of each row. by_lag: the mass at each lag. The rounding of what was computed, in float32 above all, is
    no part of them."""

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
        return total + 1e-11 * self._edges.abs().cumsum(-1)


class Meeting(NamedTuple):
    """Spans of rows at a block of columns. beyond: those that go on to the blocks before it. whole: those whose tile is
    computed. thin: those of which two dimensions (batch, heads, 2) are enough, or one (batch, heads, 1), in this block
    and all before it."""

    beyond: list[range]
    whole: list[range]
    thin: list[tuple[range, Tensor]]


class Skipping:
    """Leaves out tiles no entry of which exceeds ``share`` of the mass its row has nearer by.

    thin: whether only sums are wanted. Then, of state dimensions that evolve by themselves, all but one or two are left
    out where what the others add to no entry exceeds that share: far from the diagonal only the slowest have not
    decayed. Where rows see every token and one is enough from a block on, they need not walk further.

    share: None computes everything, unless ``needless`` says otherwise. needless: asked for the rows whose tile cannot
    matter given a bound of every entry, (heads, places, bound (batch, heads, rows)) -> (batch, heads, rows) bool; a
    tile is left out only where all agree.
    """

    def __init__(
        self, mixer: Mixer, padded: int, share: float | None, needless: list[Needless], *, thin: bool = False
    ) -> None:
        self.share, self.needless, self.thin = share, needless, thin and share is not None
        self.wanted = share is not None or bool(needless)
        support = mixer.terms[0][0].support  # that of all terms
        self._lines = support.window is None and support.segments is None
        self.missing = Missing(mixer, padded if share is not None else 0)
        self._met = torch.zeros_like(self.missing.row)
        self._near: dict[int, Tensor] = {}  # row sizes by the block whose columns they did not meet
        self._far: dict[int, Tensor] = {}  # the same for all blocks up to this one
        self._whole: set[int] = set()  # how many blocks away nothing could be left out when it was asked last

    def saw(self, tile: Tile) -> None:
        if self.share is not None:
            tile.rows.of(self._met[:, tile.heads]).add_(tile.row_mass)

    def ask(
        self, source: Source, heads: range, lo: int, spans: list[range], step: int, k: int, columns: Places
    ) -> Meeting:
        """What the spans of rows that walk back, each of ``step`` rows, do at block k."""
        away = lo // columns.count - k
        if not self.wanted or not spans or (away in self._whole and lo // columns.count % AGAIN):
            return Meeting(spans, _runs(spans), [])
        reach, dims = source.earlier[k].reach, None
        assert reach is not None
        start, stop = spans[0].start, spans[-1].stop
        sizes = source.sizes(slice(start, stop))
        tests, masses = [reach[..., :2]], [reach[..., 2:]]
        if self.thin and source.planar:
            few = sizes[..., spans[-1].start - start :, :].sum(-2)  # of the rows that are furthest away
            dims = (few * reach[..., 1]).topk(2, -1).indices[:, :, 0]  # (batch, heads, 2)
            line = _without(reach[..., 0::2], dims[..., 0])
            plane = _without(_without(reach[..., 1::2], dims[..., 0]), dims[..., 1])
            tests += [line[..., :1], plane[..., :1]]
            masses += [line[..., 1:], plane[..., 1:]]
        bounds = torch.cat(tests + masses, -1).mT @ sizes.mT
        test, mass = bounds[:, :, 0].unflatten(2, (2, -1)).unbind(2)  # each (batch, heads, 2 | 4, rows)
        group = slice(heads.start, heads.stop)
        fates = self._fates(group, Places(lo + start, stop - start), step, test)
        fates = [fates[(s.start - start) // step] for s in spans]
        runs = [_runs([s for s, own in zip(spans, fates, strict=True) if own == n]) for n in range(5)]
        if self.share is not None:
            for n, span in ((fate, span) for fate in range(test.shape[2]) for span in runs[fate]):
                inside, far = slice(span.start - start, span.stop - start), n in FAR
                left = self._far if far else self._near
                size = sizes[:, :, 0, inside].sum(-2)
                if n > 1 and dims is not None:
                    size = size.scatter(-1, dims[..., : n - 1].expand(*size.shape[:2], -1), 0.0)
                left[k] = left[k] + size if k in left else size
                rows, seen = slice(lo + span.start, lo + span.stop), (0 if far else columns.first, columns.stop)
                self._lost(group, rows, seen, test[:, :, n, inside], mass[:, :, n, inside])
        (self._whole.add if fates == [4] * len(spans) else self._whole.discard)(away)
        thin = [] if dims is None else [(s, dims[..., : n - 1]) for n in (2, 3) for s in runs[n]]
        return Meeting([s for s, fate in zip(spans, fates, strict=True) if fate not in FAR], runs[4], thin)

    def _fates(self, heads: slice, rows: Places, step: int, test: Tensor) -> list[int]:
        """For each ``step`` rows the first number of test (batch, heads, 2 | 4, rows) that is negligible in all of
        them: everything from here on, this block, everything from here on but one dimension, this block but two; 4 if
        none is."""
        if self.share is None:
            small = torch.ones_like(test, dtype=torch.bool)
        else:
            small = test <= self.share * rows.of(self._met[:, heads])
        for needless in self.needless:  # what needs more than sums must not miss an entry of a thin tile either
            every, own = (needless(heads, rows, test[:, :, n]) for n in range(2))
            small &= torch.stack([every if n in FAR else own for n in range(test.shape[2])], 2)
        if not self._lines:
            small[:, :, 2:3] = False
        if rows.count % step:
            small = pad(small, (0, -rows.count % step), value=True)
        small = small.unflatten(-1, (-1, step)).all(-1).flatten(0, 1).all(0)
        return [next((n for n, clear in enumerate(own) if clear), 4) for own in small.mT.tolist()]

    def _lost(self, heads: slice, rows: slice, columns: tuple[int, int], entry: Tensor, mass: Tensor) -> None:
        """Entries and masses of rows, (batch, heads, rows), that columns first .. stop may have had."""
        self.missing.row[:, heads, rows] += mass
        if not self.thin:
            self.missing.entry[:, heads, rows] = torch.maximum(self.missing.entry[:, heads, rows], entry)
            self.missing.add_lags(heads, rows.start - columns[1] + 1, rows.stop - 1 - columns[0], entry.sum(-1))

    def finish(self, source: Source, heads: range) -> None:
        """What columns may have lost: the rows' sizes, summed, walk back to them."""
        if self.share is not None and source.earlier:
            group, carried = slice(heads.start, heads.stop), 0
            tokens = source.earlier[0].columns.shape[-2] if source.earlier[0].columns is not None else 0
            for k in reversed(range(len(source.earlier))):
                block = source.earlier[k]
                assert block.columns is not None and block.factors is not None
                carried = carried + self._far[k] if k in self._far else carried
                here = carried + self._near[k] if k in self._near else carried
                if not isinstance(here, Tensor):
                    continue
                bound = (block.columns[:, :, 0] * here.unsqueeze(-2)).sum(-1) * (1 + source.rounding)
                self.missing.column[:, group, k * tokens : (k + 1) * tokens] += bound
                if isinstance(carried, Tensor):
                    carried = carried * block.factors[:, :, 0] * (1 + source.rounding)
        self._near, self._far, self._whole = {}, {}, set()


def _without(reach: Tensor, dim: Tensor) -> Tensor:
    """reach (batch, heads, 1, sizes, 2) without one size, (batch, heads)."""
    return reach.scatter(-2, dim[:, :, None, None, None].expand(*reach.shape[:3], 1, 2), 0.0)


def _runs(spans: list[range]) -> list[range]:
    """Neighbouring spans as one."""
    runs: list[range] = []
    for span in spans:
        if runs and runs[-1].stop == span.start:
            runs[-1] = range(runs[-1].start, span.stop)
        else:
            runs.append(span)
    return runs
