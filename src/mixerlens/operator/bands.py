"""alpha of a mixer whose state is carried by dense maps, band of rows by band of rows.

With what earlier keys have left at the start of a band in the columns of Z, the rows E that read it, and the band's map
P and injects I as columns,

    alpha[band, earlier] = E Z,   Z <- [P Z, I]

so each entry is written once, where it stays, by wide products, and the past is carried once a band. A band itself
grows from chunks by merging neighbours. All that travels is float64; what alpha is multiplied from is cast.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Evolution
from mixerlens.evolution.base import Matrix
from mixerlens.operator.streams.generators import row_factors
from mixerlens.readout import Identity
from mixerlens.shapes import tile

CHUNK = 64  # tokens a chunk at least
CHUNKS = 8  # a band at most, a power of two: the more, the longer the merging and the rarer the carrying
WORTH = 2**15  # numbers of a head's states over all tokens: below, a head's own calls cost more than its bands save
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
    whole, left = divmod(d.time, size)
    runs = [(0, whole, d.fold(0, size, whole))] if whole else []
    runs += [(whole * size, 1, d.fold(whole * size, left, 1))] if left else []
    past = torch.empty(d.batch, d.dim, d.time, dtype=torch.float64, device=d.device)
    for head in range(d.heads):  # one head's generators stay near
        for first, count, folded in runs:
            tiles = _factors(folded.select_heads([head]), d.batch, count)
            for at in _bands(count):
                lo, hi = first + folded.time * at.start, first + folded.time * at.stop
                for batch, parts in enumerate(zip(*(x[:, at] for x in tiles), strict=True)):
                    own = None if rows is None else rows[min(batch, len(rows) - 1), min(head, rows.shape[1] - 1), lo:hi]
                    _band(parts, own, past[batch], out[batch, head, lo:hi], lo)


def _bands(chunks: int) -> Iterator[slice]:
    """Chunks by powers of two."""
    lo, size = 0, CHUNKS
    while lo < chunks:
        while lo + size > chunks:
            size //= 2
        yield slice(lo, lo + size)
        lo += size


def _factors(folded: CoefficientDynamics, batch: int, count: int) -> tuple[Tensor, ...]:
    """intra, emit, inject^T and carry of the one head in float64: (batch, chunks, ...)."""
    query, key = (tile(x, 0, folded.time) for x in (folded.query, folded.key))
    f = folded.evolution.factors(query.double(), key, 0, folded.time)
    assert isinstance(f.carry, Matrix)
    intra, inject = f.intra, f.inject.mT
    if folded.scaling is not None:
        b = tile(folded.scaling, 0, folded.time).unsqueeze(-2)
        intra, inject = intra * b, inject * b
    tiles = (intra, f.emit, inject, f.carry.matrix)
    return tuple(x[:, 0].expand(batch * count, -1, -1).unflatten(0, (batch, count)) for x in tiles)


def _band(parts: tuple[Tensor, ...], weights: Tensor | None, past: Tensor, out: Tensor, lo: int) -> None:
    """Rows of alpha, (rows, time), from their chunks and what is left of all before; then they are left too."""
    intra, emit, inject, carry = parts
    hi = lo + len(out)
    if weights is not None:
        weights = weights.unflatten(0, intra.shape[:2])
        intra, emit = intra * weights, emit * weights
    emit, inject, carry = _merged(intra, emit, inject, carry, out[:, lo:hi])
    if lo:
        rows, columns = _cast(emit, past[:, :lo], out.dtype)
        torch.mm(rows, columns, out=out[:, :lo])
    if hi < out.shape[1]:
        past[:, :lo], past[:, lo:hi] = carry @ past[:, :lo], inject


def _merged(intra: Tensor, emit: Tensor, inject: Tensor, carry: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Write a band's own triangle from its chunks: intra, emit (chunks, size, ...), inject (chunks, dim, size), carry
    (chunks, dim, dim); emit (rows, dim), inject (dim, rows) and carry of the band as a whole."""
    count, size = intra.shape[:2]
    out.unflatten(1, (count, size)).unflatten(0, (count, size)).diagonal(dim1=0, dim2=2).movedim(-1, 0).copy_(intra)
    while count > 1:
        rows, columns = _cast(emit[1::2], inject[0::2], out.dtype)
        for k, (left, right) in enumerate(zip(rows, columns, strict=True)):
            middle = (2 * k + 1) * size
            torch.mm(left, right, out=out[middle : middle + size, middle - size : middle])
        emit = torch.stack([emit[0::2], torch.bmm(emit[1::2], carry[0::2])], 1).flatten(1, 2)
        inject = torch.cat([torch.bmm(carry[1::2], inject[0::2]), inject[1::2]], -1)
        carry = torch.bmm(carry[1::2], carry[0::2])
        count, size = count // 2, size * 2
    return emit[0], inject[0], carry[0]


def _cast(rows: Tensor, columns: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows (..., rows, dim) and columns (..., dim, columns) as they are multiplied. A state that has grown would leave
    the range of float32: then each dimension is measured in units of its largest column."""
    if dtype == torch.float32 and not max(map(abs, map(float, columns.aminmax()))) < LARGE:
        units = columns.abs().amax(-1, keepdim=True)
        units = torch.where(torch.isfinite(units) & (units > 0), units, 1)
        rows, columns = rows * units.mT, columns / units
    return rows.to(dtype), columns.to(dtype)
