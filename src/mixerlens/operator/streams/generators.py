"""Where tiles come from: the generators of one block of tokens at a time, and of all blocks before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.operator import apply
from mixerlens.operator.streams import logs
from mixerlens.operator.streams.buffers import Buffers
from mixerlens.operator.streams.maps import Maps, maps
from mixerlens.operator.streams.parts import Part, part
from mixerlens.operator.streams.thin import Fan, weights
from mixerlens.readout import RealPart
from mixerlens.shapes import wide

PIECE = 2**20  # bytes of the temporaries of windows that are formed together


@dataclass(frozen=True, eq=False)
class Square:
    """Columns inject (batch, units, pairs, columns, dim), rows emit (batch, units, pairs, rows, dim), in the working
    dtype. Where several heads share a unit: their factors left (batch, heads, pairs, rows) and right (batch, heads,
    pairs, columns), wide."""

    emit: Tensor
    inject: Tensor
    left: Tensor | None = None
    right: Tensor | None = None

    def some(self, rows: range) -> Square:
        """Some of the rows."""
        span = slice(rows.start, rows.stop)
        left = None if self.left is None else self.left[..., span]
        return replace(self, emit=self.emit[..., span, :], left=left)

    def part(self, units: slice, pairs: range, rows: range) -> Square:
        pair, span = slice(pairs.start, pairs.stop), slice(rows.start, rows.stop)
        square = Square(self.emit[:, units, pair, span], self.inject[:, units, pair])
        if self.left is None or self.right is None:
            return square
        each = self.left.shape[1] // self.emit.shape[1]
        heads = slice(units.start * each, units.stop * each)
        return replace(square, left=self.left[:, heads, pair, span], right=self.right[:, heads, pair])


@dataclass(frozen=True, eq=False)
class Earlier:
    """A block as the rows after it see it. inject: working dtype, each dimension in ``units`` (None: one). reach:
    (batch, heads, 1, sizes, 4), what sizes of rows are multiplied with for the bounds of ``Skipping.ask``. columns: the
    sizes of the injects, (batch, heads, 1, tokens, sizes). factors: how far the block can lengthen each size, (batch,
    heads, 1, sizes). fans: two dimensions of the injects each, as ``plane`` gives them. lines: one size each of
    ``columns`` and of ``factors``."""

    inject: Tensor
    units: list[Tensor] | None
    maps: list[Maps]
    reach: Tensor | None = None
    columns: Tensor | None = None
    factors: Tensor | None = None
    fans: dict[tuple[int, ...], tuple[Tensor, Fan]] = field(default_factory=dict)
    lines: dict[tuple[int, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)


def reaching(block: Earlier, sizes: list[Tensor], before: Earlier | None, rounding: float) -> Earlier:
    """The block with its bounds. sizes: of the injects, each system's (batch, heads, 1, tokens, its sizes).

    reach: [largest entry of all blocks up to this one, of this one, sum over all of them, over this one], a unit of a
    row's size: one recursion from block to block, right for maps that shrink and for those that grow."""
    columns = torch.cat(sizes, -1)
    # one number may be the map of all sizes of its system
    each = zip(block.maps, sizes, strict=True)
    factors = torch.cat([m.norms().expand(*x.shape[:3], x.shape[-1]) for m, x in each], -1)
    size = columns * (1 + rounding)
    entry, total = size.amax(-2), size.sum(-2)
    reach = torch.stack([entry, entry, total, total], -1)
    if before is not None and before.reach is not None:
        carried = before.reach * (factors * (1 + rounding)).unsqueeze(-1)
        reach = torch.stack([torch.maximum(entry, carried[..., 0]), entry, total + carried[..., 2], total], -1)
    return replace(block, reach=reach, columns=columns, factors=factors)


class Term:
    """One system of a mixer: its windows, with weight, readout and eta in what emits."""

    def __init__(self, d: CoefficientDynamics, weight: Tensor | None, chunk: int, buffers: Buffers) -> None:
        self.dynamics, self.buffers = d, buffers
        self.rows = row_factors(d, weight)
        self.by_logs = logs.given(d) and (logs.chunk(d) or 0) >= chunk

    def windows(self, lo: int, size: int, count: int) -> tuple[Tensor, Part]:
        """The tokens from lo on as ``count`` windows: intra (batch, heads, count, size, size) after the readout, of
        which only what is on or below the diagonal is meant, and the generators. Beyond the last token all is zero."""
        d = self.dynamics
        if self.by_logs:
            intra, emit, inject, through = logs.windows(d, lo, size, count, self.buffers.of("chunks"))
        else:
            intra, emit, inject, through = self._factors(d, lo, size, count)
        intra = d.readout(intra)
        if self.rows is not None:
            rows = self.rows[:, :, lo : lo + size * count]
            rows = pad(rows, (0, 0, 0, size * count - rows.shape[2])).unflatten(2, (count, size))
            intra, emit = (intra * rows).to(intra.dtype), (emit * rows).to(emit.dtype)
        return intra, part(emit, inject, through, self.buffers.of("windows"))

    def _factors(self, d: CoefficientDynamics, lo: int, size: int, count: int) -> tuple[Tensor, Tensor, Tensor, Maps]:
        """intra, emit, inject (batch, heads, count, size, ...) and maps by the evolution's own factors."""
        pieces: list[tuple[int, int, int]] = []
        end = min(lo + size * count, d.time)
        if d.evolution.begins and lo == 0:  # the first window has an A_0 of its own
            pieces.append((0, min(size, end), 1))
            lo = min(size, end)
        whole = (end - lo) // size
        each = max(4, PIECE // (d.batch * d.heads * 2 * size * max(size, d.dim) * 8))
        pieces += [(lo + k * size, size, min(each, whole - k)) for k in range(0, whole, each)]
        if lo + whole * size < end:
            pieces.append((lo + whole * size, end - lo - whole * size, 1))
        parts = [self._piece(start, length, number, size) for start, length, number in pieces]
        found = sum(number for _, _, number in pieces)
        intra, emit, inject = (x[0] if len(x) == 1 else torch.cat(x, 2) for x in _columns(parts))
        carried = [(p[3], piece[2]) for p, piece in zip(parts, pieces, strict=True)]
        if found < count:
            beyond = (0, 0, 0, 0, 0, count - found)
            intra, emit, inject = (pad(x, beyond) for x in (intra, emit, inject))
            carried.append((Maps(carried[0][0].numbers.new_ones(1, 1, 1, 1)), count - found))
        return intra, emit, inject, Maps.joined(carried, d.batch, d.heads)

    def _piece(self, lo: int, length: int, count: int, size: int) -> tuple[Tensor, Tensor, Tensor, Maps]:
        d = self.dynamics
        f = d.factors(lo, lo + length) if count == 1 else d.fold(lo, length, count).factors(0, length)
        fill = size - length

        def apart(x: Tensor, columns: int) -> Tensor:
            """(batch * count | 1, heads | 1, length, ...) -> (batch, heads, count, size, ...)."""
            x = x.unsqueeze(1) if x.shape[0] == 1 else x.unflatten(0, (-1, count))
            x = pad(x, (0, columns, 0, fill)) if fill else x
            return x.transpose(1, 2).expand(d.batch, d.heads, count, -1, -1)

        through = maps(f.carry, d.batch, d.heads, d.dim, count, f.emit)
        return apart(f.intra, fill), apart(f.emit, 0), apart(f.inject, 0), through

    def cast(self, x: Tensor, dtype: torch.dtype, *, emits: bool) -> Tensor:
        """Generators as the tiles multiply them: real where the readout takes the real part of complex scores."""
        readout = self.dynamics.readout
        if isinstance(readout, RealPart):
            x = readout.scale * x if emits else x
            if x.is_complex():
                x = torch.cat([x.real, -x.imag if emits else x.imag], -1)
        return x.to(dtype)

    def sizes(self, x: Tensor, dense: bool, *, emits: bool = False) -> Tensor:
        """What bounds a product of generators: absolute entries, or norms where dense maps mix the entries."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True) if dense else x.abs()
        readout = self.dynamics.readout
        return size * abs(readout.scale) if emits and isinstance(readout, RealPart) else size


def _columns(parts: list[tuple[Tensor, Tensor, Tensor, Maps]]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    return [p[0] for p in parts], [p[1] for p in parts], [p[2] for p in parts]


def _picked(parts: list[Tensor], dims: Tensor) -> Tensor:
    """Some of the last axis of parts (batch | 1, heads | 1, 1, tokens, ...) side by side: (batch, heads, tokens, n)."""
    x = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    x = x[:, :, 0].expand(*dims.shape[:2], *x.shape[3:])
    return x.gather(-1, dims.unsqueeze(-2).expand(*x.shape[:-1], -1))


def row_factors(d: CoefficientDynamics, weight: Tensor | None) -> Tensor | None:
    """Weight / eta of every row, (batch | 1, heads | 1, time, 1), float64; None where all are 1."""
    one = torch.ones(1, 1, d.time, 1, dtype=torch.float64, device=d.device)
    rows = weigh(one / wide(apply.normalizer_rows(d)), weight)
    return None if bool((rows == 1).all()) else rows


class Source:
    """Where the tiles of a mixer come from: one block of tokens at a time, and all blocks before it.

    units: products a tile is made of, one a head or one a group of heads. bounded: whether ``bounds`` will be asked.
    """

    units: int
    rounding: float
    earlier: list[Earlier]
    bounded: bool

    def block(self, lo: int) -> Tensor:
        """Begin the block at lo: its chunks' own coefficients (batch, heads, windows, chunk, chunk)."""
        raise NotImplementedError

    def squares(self) -> Iterator[Square]:
        """What lies between neighbouring windows of the block, smallest first, until it is one window."""
        raise NotImplementedError

    def keep(self) -> None:
        """End the block: it is the last of ``earlier`` from now on."""
        raise NotImplementedError

    def against(self, k: int, rows: slice = slice(None)) -> Square:
        """Some of the block's rows, which have walked back to block k, and that block's columns."""
        raise NotImplementedError

    def back(self, k: int) -> None:
        """The rows walk back over block k."""
        raise NotImplementedError

    def sizes(self, rows: slice) -> Tensor:
        """The sizes of some rows where they are now: (batch, heads, 1, rows, sizes), to bound with ``reach``."""
        raise NotImplementedError

    @property
    def planar(self) -> bool:
        """Whether each size is that of one real dimension, so that ``plane`` and ``line`` may be asked."""
        return False

    def plane(self, k: int, rows: slice, dims: Tensor) -> tuple[Tensor, Tensor, Fan]:
        """Two dimensions (batch, heads, 2) of some rows and of block k's columns, float64: (batch, heads, tokens, 2)
        each, and the columns' fan."""
        raise NotImplementedError

    def line(self, k: int, rows: slice, dim: Tensor) -> tuple[Tensor, Tensor, Fan]:
        """One dimension (batch, heads, 1) of some rows, and its size in the columns of all blocks up to k, as they
        leave that block: as ``plane``."""
        raise NotImplementedError


class Generators(Source):
    """The generators of one mixer, a product a head."""

    def __init__(self, mixer: Mixer, chunk: int, windows: int, buffers: Buffers, *, bounded: bool) -> None:
        self.chunk, self.windows, self.bounded, self.units = chunk, windows, bounded, mixer.heads
        self.terms = [Term(d, weight, chunk, buffers.of(f"term {n}")) for n, (d, weight) in enumerate(mixer.terms)]
        self.dtype = mixer.coefficient_dtype
        self.rounding = 1e-4 if self.dtype in (torch.float32, torch.complex64) else 1e-9
        self.earlier = []
        self._grows = False

    def block(self, lo: int) -> Tensor:
        found = [term.windows(lo, self.chunk, self.windows) for term in self.terms]
        self._parts = [part for _, part in found]
        self._grows = any(part.maps.may_grow for part in self._parts)
        return reduce(torch.add, (intra for intra, _ in found))

    def squares(self) -> Iterator[Square]:
        while self._parts[0].windows > 1:
            inject, units = self._columns([part.left() for part in self._parts], self._grows)
            yield Square(self._rows([part.right() for part in self._parts], units), inject)
            self._parts = [part.merged() for part in self._parts]
        self._walking = [part.whole_emit() for part in self._parts] if self.earlier else []

    def keep(self) -> None:
        injects = [part.whole_inject() for part in self._parts]
        inject, units = self._columns(injects, True)  # what comes later may grow
        block = Earlier(inject, units, [part.maps for part in self._parts])
        if self.bounded:
            sizes = [t.sizes(x, p.maps.dense) for t, x, p in zip(self.terms, injects, self._parts, strict=True)]
            block = reaching(block, sizes, self.earlier[-1] if self.earlier else None, self.rounding)
        self.earlier.append(block)

    def against(self, k: int, rows: slice = slice(None)) -> Square:
        emit = [x[..., rows, :] for x in self._walking]
        return Square(self._rows(emit, self.earlier[k].units), self.earlier[k].inject)

    def back(self, k: int) -> None:
        self._walking = [m.rows(x) for m, x in zip(self.earlier[k].maps, self._walking, strict=True)]

    def sizes(self, rows: slice) -> Tensor:
        found = zip(self.terms, self._walking, self._parts, strict=True)
        return torch.cat([term.sizes(x[..., rows, :], part.maps.dense, emits=True) for term, x, part in found], -1)

    @property
    def planar(self) -> bool:
        real = not any(x.is_complex() or part.maps.dense for x, part in zip(self._walking, self._parts, strict=True))
        return real and sum(x.shape[-1] for x in self._walking) > 1

    def plane(self, k: int, rows: slice, dims: Tensor) -> tuple[Tensor, Tensor, Fan]:
        block, key = self.earlier[k], tuple(dims.flatten().tolist())
        if key not in block.fans:
            columns = _picked([wide(block.inject)], dims)
            if block.units is not None:
                units = _picked(block.units, dims)
                columns = columns * torch.where(units > 0, units, 1)
            block.fans[key] = columns, Fan.of(columns, weights(columns.shape[-2], columns))
        return self._picked_rows(rows, dims), *block.fans[key]

    def line(self, k: int, rows: slice, dim: Tensor) -> tuple[Tensor, Tensor, Fan]:
        key, parts, factor = tuple(dim.flatten().tolist()), [], 1
        for block in reversed(self.earlier[: k + 1]):
            if key not in block.lines:
                assert block.columns is not None and block.factors is not None
                block.lines[key] = _picked([block.columns], dim), _picked([block.factors.unsqueeze(-2)], dim)
            own, through = block.lines[key]
            parts.append(own * factor)
            factor = factor * through
        columns = torch.cat(parts[::-1], -2)
        return self._picked_rows(rows, dim), columns, Fan.of(columns, weights(columns.shape[-2], columns))

    def _picked_rows(self, rows: slice, dims: Tensor) -> Tensor:
        emit = [t.cast(x[..., rows, :], x.dtype, emits=True) for t, x in zip(self.terms, self._walking, strict=True)]
        return _picked(emit, dims)

    def _columns(self, inject: list[Tensor], scaled: bool) -> tuple[Tensor, list[Tensor] | None]:
        """Injects in the working dtype. In float32 each state dimension is measured in units of its largest inject:
        what grows on one side and shrinks on the other would leave the range."""
        units = None
        if scaled and self.dtype in (torch.float32, torch.complex64):
            units = [x.abs().amax(-2, keepdim=True) for x in inject]
            units = [torch.where(torch.isfinite(u), u, 1) for u in units]
            inject = [x / torch.where(u > 0, u, 1) for x, u in zip(inject, units, strict=True)]
        return self._cast(inject, emits=False), units

    def _rows(self, emit: list[Tensor], units: list[Tensor] | None) -> Tensor:
        if units is not None:
            emit = [x * u for x, u in zip(emit, units, strict=True)]
        return self._cast(emit, emits=True)

    def _cast(self, parts: list[Tensor], *, emits: bool) -> Tensor:
        cast = [term.cast(x, self.dtype, emits=emits) for term, x in zip(self.terms, parts, strict=True)]
        return cast[0] if len(cast) == 1 else torch.cat(cast, -1)
