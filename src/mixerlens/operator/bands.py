"""alpha of a mixer whose state is carried by dense maps, band of rows by band of rows.

With what earlier keys have left at the start of a band in the columns of Z, the rows E that read it, and the band's map
P and injects I as columns,

    alpha[band, earlier] = E Z,   Z <- [P Z, I]

so each entry is written once, where it stays, by wide products, and the past is carried once a band. A band itself
grows from chunks by merging neighbours. What travels from band to band is float64. Where no product of maps can grow,
|E z| <= |q| |b k| for every row and column, so that the products that write alpha, and those in a band, where rows and
columns meet three maps at most, are of its own precision. That is certified by the norms of all maps; without it
everything is float64 up to the entries themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens import pages
from mixerlens.composition import Mixer
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta, Evolution
from mixerlens.evolution.base import Matrix
from mixerlens.operator.streams.generators import row_factors
from mixerlens.readout import Identity
from mixerlens.shapes import fold, spread, take_heads, tile

CHUNK = 64  # tokens a chunk at least
CHUNKS = 8  # a band at most, a power of two: the more, the longer the merging and the rarer the carrying
WORTH = 2**15  # numbers of a head's states over all tokens: below, a head's own calls cost more than its bands save
BANDS = 4  # side by side at most
COLUMNS = 4096  # of a product in float64 at once
GROWTH = 2.0  # of any product of maps, at most, that counts as none: roundings of unit keys


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
    for head, bounded in enumerate(_bounded(d)):  # one head's generators stay near
        own = _Head(d, rows, head)
        for run in _runs(d.time, size):
            tiles = own.tiles(run, m.coefficient_dtype if bounded else torch.float64)
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


def _bounded(d: CoefficientDynamics) -> list[bool]:
    """For every head, whether no product of its maps stretches any state: certified for delta rules, whose
    norms are known; other kinds are not looked at."""
    e = d.evolution
    if not isinstance(e, Delta):
        return [False] * d.heads
    norms = e.norms()
    logs = norms.clamp(min=1).log().sum(1) * (d.time // norms.shape[1])
    return spread(torch.exp(logs) <= GROWTH, d.heads, 1).all(0).expand(d.heads).tolist()  # a NaN is not bounded


def _write(run: _Run, tiles: tuple[Tensor, ...], past: Tensor, out: Tensor) -> None:
    """The run's rows of alpha, out (time, time), from its chunks and ``past``, what is left of all before in the
    columns (dim, time); then these are left too."""
    lo = run.lo
    for rows, columns, through in zip(*_merged(run, tiles, out), strict=True):
        hi = lo + len(rows)
        if lo:
            _multiply(rows, past[:, :lo], out[lo:hi, :lo])
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
        _multiply(below, before, _squares(out, run.lo, size, size, 2 * size, len(later)))
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


def _multiply(rows: Tensor, columns: Tensor, out: Tensor) -> None:
    """Rows (..., rows, dim) times columns (..., dim, columns) into out, in the precision of the rows."""
    if rows.dtype == out.dtype:
        torch.matmul(rows, columns.to(rows.dtype), out=out)
        return
    for lo in range(0, columns.shape[-1], COLUMNS):
        out[..., lo : lo + COLUMNS] = rows @ columns[..., lo : lo + COLUMNS]
