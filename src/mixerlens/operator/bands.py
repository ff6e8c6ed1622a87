"""alpha of a mixer whose state is carried by dense maps, band of rows by band of rows.

With what earlier keys have left at the start of a band in the columns of Z, the rows E that read it, and the band's map
P and injects I as columns,

    alpha[band, earlier] = E Z,   Z <- [P Z, I]

so each entry is written once, where it stays, by wide products, and the past is carried once a band. A band itself
grows from chunks by merging neighbours. All that travels is float64; what alpha is multiplied from is cast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens import pages
from mixerlens.composition import Mixer
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Evolution
from mixerlens.evolution.base import Matrix
from mixerlens.operator.streams.generators import row_factors
from mixerlens.readout import Identity
from mixerlens.shapes import fold, take_heads, tile

CHUNK = 64  # tokens a chunk at least
CHUNKS = 8  # a band at most, a power of two: the more, the longer the merging and the rarer the carrying
WORTH = 2**15  # numbers of a head's states over all tokens: below, a head's own calls cost more than its bands save
BANDS = 4  # side by side at most
LARGE = 2.0**40  # entries of a state from which on products with the smallest rows would lose digits


def fits(m: Mixer) -> bool:
    """Whether the mixer is one long system of real scores, with dense maps and a closed form for its chunks."""
    if m.time * m.dim < WORTH:
        return False
    (d, _), *others = m.terms
    if others or d.dtype.is_complex or type(d.readout) is not Identity or d.evolution.begins:
        return False
    return type(d.evolution).factors is not Evolution.factors and isinstance(d.factors(0, 1).carry, Matrix)


def write(m: Mixer, out: Tensor) -> None:
    """alpha of a mixer that ``fits``, its support aside, into out (batch, heads, time, time), which holds zeros."""
    ((d, weight),) = m.terms
    rows, size = row_factors(d, weight), max(CHUNK, d.evolution.chunk)
    past = pages.empty(d.batch, d.dim, d.time, dtype=torch.float64, device=d.device)
    for head in range(d.heads):  # one head's generators stay near
        own = _Head(d, rows, head)
        for run in _runs(d.time, size):
            tiles = own.tiles(run)
            for batch in range(d.batch):
                _write(run, tuple(x[batch] for x in tiles), past[batch], out[batch, head])


@dataclass(frozen=True)
class _Run:
    """Bands side by side: from token ``lo`` on, ``bands`` of ``chunks`` chunks of ``size`` tokens each."""

    lo: int
    bands: int
    chunks: int
    size: int

    @property
    def hi(self) -> int:
        return self.lo + self.bands * self.chunks * self.size


def _runs(time: int, size: int) -> Iterator[_Run]:
    """Whole bands, some together; then the chunks that are left by powers of two; then what is left of a chunk."""
    lo, chunks = 0, CHUNKS
    while time - lo >= size:
        while time - lo < chunks * size:
            chunks //= 2
        yield (run := _Run(lo, min(BANDS, (time - lo) // (chunks * size)), chunks, size))
        lo = run.hi
    if lo < time:
        yield _Run(lo, 1, 1, time - lo)


class _Head:
    """The generators of one head."""

    def __init__(self, d: CoefficientDynamics, rows: Tensor | None, head: int) -> None:
        def own(x: Tensor) -> Tensor:
            return take_heads(x, [head], d.heads)

        self.dynamics = d
        self.query, self.key = own(d.query), own(d.key)
        self.evolution = d.evolution.take_heads([head], d.heads)
        self.scaling = None if d.scaling is None else own(d.scaling)
        self.rows = None if rows is None else rows[:, min(head, rows.shape[1] - 1), :, 0].expand(d.batch, -1)

    def tiles(self, run: _Run) -> tuple[Tensor, ...]:
        """intra, emit, inject^T and carry in float64: (batch, chunks, ...), with scaling and row factors."""
        d, count = self.dynamics, run.bands * run.chunks

        def windows(x: Tensor) -> Tensor:
            return tile(fold(x, d.batch, run.lo, run.size, count), 0, run.size)

        query, key = windows(self.query).double(), windows(self.key)
        f = self.evolution.fold(d.batch, run.lo, run.size, count).factors(query, key, 0, run.size)
        assert isinstance(f.carry, Matrix)
        intra, emit, inject = f.intra, f.emit, f.inject.mT
        if self.scaling is not None:
            b = windows(self.scaling).unsqueeze(-2)
            intra, inject = intra * b, inject * b
        if self.rows is not None:
            rows = self.rows[:, run.lo : run.hi].reshape(-1, 1, run.size, 1)
            intra, emit = intra * rows, emit * rows
        return tuple(
            x[:, 0].expand(d.batch * count, -1, -1).unflatten(0, (d.batch, count))
            for x in (intra, emit, inject, f.carry.matrix)
        )


def _write(run: _Run, tiles: tuple[Tensor, ...], past: Tensor, out: Tensor) -> None:
    """The run's rows of alpha, out (time, time), from its chunks and ``past``, what is left of all before in the
    columns (dim, time); then these are left too."""
    emit, carry = _merged(run, tiles, past, out)
    for k, (rows, through) in enumerate(zip(emit, carry, strict=True)):
        lo = run.lo + k * run.chunks * run.size
        if lo:
            left, right = _cast(rows, past[:, :lo], out.dtype)
            torch.mm(left, right, out=out[lo : lo + len(rows), :lo])
        if lo + len(rows) < len(out):
            past[:, :lo] = through @ past[:, :lo]


def _merged(run: _Run, tiles: tuple[Tensor, ...], past: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Write the bands' own triangles from their chunks: intra (chunks, size, size), emit (chunks, size, dim), inject
    (chunks, dim, size), carry (chunks, dim, dim). emit (bands, rows, dim) and carry of the bands as wholes; what each
    of them leaves is in its columns of ``past``."""
    intra, emit, inject, carry = tiles
    size, dim = emit.shape[1:]
    _squares(out, run.lo, 0, size, size, len(intra)).copy_(intra)
    columns = past[:, run.lo : run.hi]
    columns.unflatten(1, (-1, size)).copy_(inject.transpose(0, 1))
    emit = emit.reshape(-1, dim)
    while len(carry) > run.bands:
        earlier, later = carry[0::2], carry[1::2]
        below = emit.view(-1, 2, size, dim)[:, 1]
        before = columns.unflatten(1, (-1, 2, size))[:, :, 0].transpose(0, 1)
        torch.bmm(*_cast(below, before, out.dtype), out=_squares(out, run.lo, size, size, 2 * size, len(later)))
        below.copy_(torch.bmm(below, earlier))
        before.copy_(torch.bmm(later, before))
        carry = torch.bmm(later, earlier)
        size *= 2
    return emit.view(run.bands, -1, dim), carry


def _squares(out: Tensor, lo: int, below: int, size: int, step: int, count: int) -> Tensor:
    """Squares of a matrix along its diagonal from lo on, a step apart and ``below`` it: a view (count, size, size)."""
    down, right = out.stride()
    first = out[lo + below :, lo:]
    return first.as_strided((count, size, size), (step * (down + right), down, right))


def _cast(rows: Tensor, columns: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows (..., rows, dim) and columns (..., dim, columns) as they are multiplied. A state that has grown would leave
    the range of float32: then each dimension is measured in units of its largest column."""
    if dtype == torch.float64:
        return rows, columns
    small = columns.to(dtype).contiguous()
    if not float(torch.linalg.vector_norm(small)) < LARGE:
        units = columns.abs().amax(-1, keepdim=True)
        units = torch.where(torch.isfinite(units) & (units > 0), units, 1)
        rows, columns = rows * units.mT, columns / units
        small = columns.to(dtype)
    return rows.to(dtype), small
