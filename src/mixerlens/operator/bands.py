"""alpha of a mixer whose state is carried by dense maps, band of rows by band of rows.

With what earlier keys have left at the start of a band in the columns of Z, the rows E that read it, and the band's map
P and injects I as columns,

    alpha[band, earlier] = E Z,   Z <- [P Z, I]

so each entry is written once, where it stays, by wide products, and the past is carried once a band. A band itself
grows from chunks by merging neighbours. What travels from band to band is float64; in a band, where rows and columns
meet three maps at most, they are of alpha's own precision unless the maps let them grow.
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
GROWN = 2.0  # times the norm that maps have at most that let nothing grow: beyond, small rows might lose digits


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
            tiles = own.tiles(run, m.coefficient_dtype)
            if m.coefficient_dtype != torch.float64 and not _mild(tiles):
                tiles = own.tiles(run, torch.float64)
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
            return take_heads(x, [head], d.heads).contiguous()

        self.dynamics = d
        self.query, self.key = own(d.query), own(d.key)
        self.evolution = d.evolution.map(own)
        self.scaling = None if d.scaling is None else own(d.scaling)
        self.rows = None if rows is None else rows[:, min(head, rows.shape[1] - 1), :, 0].expand(d.batch, -1)

    def tiles(self, run: _Run, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """intra, emit and inject^T, with scaling and row factors, and carry in float64: (batch, chunks, ...)."""
        d, count = self.dynamics, run.bands * run.chunks

        def windows(x: Tensor) -> Tensor:
            return tile(fold(x, d.batch, run.lo, run.size, count), 0, run.size)

        query, key = windows(self.query).to(dtype), windows(self.key)
        f = self.evolution.fold(d.batch, run.lo, run.size, count).factors(query, key, 0, run.size)
        assert isinstance(f.carry, Matrix)
        intra, emit, inject = f.intra, f.emit, f.inject.mT
        if self.scaling is not None:
            b = windows(self.scaling).unsqueeze(-2)
            intra, inject = ((x * b).to(dtype) for x in (intra, inject))
        if self.rows is not None:
            rows = self.rows[:, run.lo : run.hi].reshape(-1, 1, run.size, 1)
            intra, emit = ((x * rows).to(dtype) for x in (intra, emit))
        return tuple(
            x[:, 0].expand(d.batch * count, -1, -1).unflatten(0, (d.batch, count))
            for x in (intra, emit, inject, f.carry.matrix)
        )


def _mild(tiles: tuple[Tensor, ...]) -> bool:
    """Whether what a band carries stays within the range of float32."""
    *_, inject, carry = tiles
    norm, most = torch.linalg.vector_norm, carry.shape[-1] ** 0.5  # of an orthogonal map
    return float(norm(inject)) < LARGE and float(norm(carry, dim=(-2, -1)).amax()) < GROWN * most


def _write(run: _Run, tiles: tuple[Tensor, ...], past: Tensor, out: Tensor) -> None:
    """The run's rows of alpha, out (time, time), from its chunks and ``past``, what is left of all before in the
    columns (dim, time); then these are left too."""
    lo = run.lo
    for rows, columns, through in zip(*_merged(run, tiles, out), strict=True):
        hi = lo + len(rows)
        if lo:
            left, right = _cast(rows, past[:, :lo], out.dtype)
            torch.mm(left, right, out=out[lo:hi, :lo])
        if hi < len(out):
            past[:, :lo], past[:, lo:hi] = through @ past[:, :lo], columns
        lo = hi


def _merged(run: _Run, tiles: tuple[Tensor, ...], out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Write the bands' own triangles from their chunks: intra (chunks, size, size), emit (chunks, size, dim), inject
    (chunks, dim, size), carry (chunks, dim, dim). emit (bands, rows, dim), inject (bands, dim, rows) and carry (bands,
    dim, dim) of the bands as wholes."""
    intra, emit, inject, carry = tiles
    size, dim = emit.shape[1:]
    _squares(out, run.lo, 0, size, size, len(intra)).copy_(intra)
    while len(carry) > run.bands:
        earlier, later = carry[0::2], carry[1::2]
        below, before = emit[1::2], inject[0::2]
        torch.bmm(*_cast(below, before, out.dtype), out=_squares(out, run.lo, size, size, 2 * size, len(later)))
        emit, rows = emit.new_empty(len(later), 2, size, dim), emit
        inject, columns = inject.new_empty(len(later), dim, 2, size), inject
        emit[:, 0], inject[:, :, 1] = rows[0::2], columns[1::2]
        torch.bmm(below, earlier.to(emit.dtype), out=emit[:, 1])
        torch.bmm(later.to(inject.dtype), before, out=inject[:, :, 0])
        emit, inject, carry = emit.flatten(1, 2), inject.flatten(2), torch.bmm(later, earlier)
        size *= 2
    return emit, inject, carry


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
