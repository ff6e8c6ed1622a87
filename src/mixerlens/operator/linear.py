"""Views that are linear in alpha: sums over rows and columns, moments of the lag, the signed map, alpha itself.

Each is a product with a few probes, so a mixer with a state answers by scans, in time and memory linear in the length
(`dense` apart, whose answer is quadratic). Other mixers answer by their row tiles.
"""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor

from mixerlens import pages
from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.normalizer import NoNormalizer
from mixerlens.operator import apply, bands, blocks, recompute, scan, steps
from mixerlens.operator.memory import TEMPORARY
from mixerlens.operator.reductions import room_for_map
from mixerlens.operator.streams.buffers import Buffers
from mixerlens.operator.streams.generators import Generators, Square
from mixerlens.operator.streams.walk import shape
from mixerlens.operator.tiles import RowTiles
from mixerlens.shapes import wide

ANCHOR = 1024  # tokens after which lags are counted from a new place, so that their powers stay small


def row_sum(mixer: Mixer) -> Tensor:
    """sum_j alpha_ij: (batch, heads, time)."""
    return apply.forward(mixer, _ones(mixer))[..., 0]


def column_sum(mixer: Mixer) -> Tensor:
    """sum_i alpha_ij: (batch, heads, time)."""
    return apply.transposed(mixer, _ones(mixer))[..., 0]


def _ones(m: Mixer) -> Tensor:
    return torch.ones(1, 1, 1, 1, dtype=m.dtype.to_real(), device=m.device).expand(m.batch, m.heads, m.time, 1)


def lag_moments(mixer: Mixer, order: int) -> Tensor:
    """sum_j alpha_ij (i - j)^p for p = 0 .. order: (batch, heads, time, order + 1), in float64 (complex128)."""
    total: Tensor | None = None
    for d, weight in mixer.terms:
        own = _swept_moments(d, order) if d.recurrent else _tiled_moments(d.to(torch.float64), order)
        own = weigh(own, weight)
        total = own if total is None else total + own
    assert total is not None
    return total


def _swept_moments(d: CoefficientDynamics, order: int) -> Tensor:
    stepped = steps.cheaper(d, _ones(d)) and not recompute.wanted(d)
    moments = steps.lag_moments(d, order) if stepped else _block_moments(d.to(torch.float64), order)
    return moments if type(d.normalizer) is NoNormalizer else moments / apply.normalizer_rows(d.to(torch.float64))


def _block_moments(d: CoefficientDynamics, order: int) -> Tensor:
    """Before eta. Powers of i and j of a long sequence cancel, so lags are counted from the start of the block of row
    i, and the state's own moments are moved along from block to block by sums."""
    state, parts = None, []
    for lo in range(0, d.time, ANCHOR):
        hi = min(lo + ANCHOR, d.time)
        after = torch.arange(hi - lo, dtype=torch.float64, device=d.device)  # i - lo
        powers = torch.stack([(-after) ** p for p in range(order + 1)], -1)  # (lo - j)^p
        block = blocks.part(d, lo, hi)
        if state is not None and d.support.segments is not None:  # the state of another segment goes no further
            last, here = d.support.segments[:, lo - 1], d.support.segments[:, lo]
            state = state * (last == here).to(d.device)[:, None, None, None]
        y, state = scan.numerators(block, powers.expand(d.batch, d.heads, -1, -1), state)
        parts.append(_moved(y, after))
        if hi < d.time:
            state = _moved(state, torch.full((1,), float(hi - lo), dtype=torch.float64, device=d.device))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _moved(moments: Tensor, by: Tensor) -> Tensor:
    """sum (x + by)^p from sum x^p, p on the last axis, by binomial sums; by (rows | 1)."""
    columns = list(moments.unbind(-1))
    for p in reversed(range(1, len(columns))):
        for k in range(p):
            columns[p] = torch.addcmul(columns[p], columns[k], comb(p, k) * by ** (p - k))
    return torch.stack(columns).movedim(0, -1)  # in memory, each of them stays a long row


def _tiled_moments(d: CoefficientDynamics, order: int) -> Tensor:
    total = torch.zeros(d.batch, d.heads, d.time, order + 1, dtype=d.coefficient_dtype, device=d.device)
    for b in RowTiles(d):
        lags = b.lags().to(total.dtype)
        rows = [(b.coefficients * lags**p).sum(-1) for p in range(order + 1)]
        total[:, b.heads.start : b.heads.stop, b.lo : b.hi] = torch.stack(rows, -1)
    return total


def signed_map(mixer: Mixer, pixels: int) -> Tensor:
    """Mean of alpha over the cells of ``reductions.Heatmap``: (batch, heads, pixels, pixels)."""
    room_for_map(mixer, pixels)
    m, pool = mixer, _averaging(pixels, mixer.time, mixer.device)
    total = torch.zeros(m.batch, m.heads, pixels, pixels, dtype=m.coefficient_dtype, device=m.device)
    size = max(1, TEMPORARY // (m.batch * m.time * pixels * m.dtype.itemsize))
    for start in range(0, m.heads, size):
        group = range(start, min(start + size, m.heads))
        columns = pool.mT.to(m.dtype.to_real()).expand(m.batch, len(group), -1, -1)
        pooled = apply.forward(m.select_heads(group), columns)
        total[:, group.start : group.stop] = (pool.to(wide(pooled).dtype) @ wide(pooled)).to(total.dtype)
    return total


def dense(mixer: Mixer) -> Tensor:
    """alpha, (batch, heads, time, time), from the generators of `streams`: every entry is written once, where it stays.

    For the mixers that ``streams.fits``; not differentiable.
    """
    m, chunk = mixer, shape(mixer)[0]
    out = pages.zeros(m.batch, m.heads, m.time, m.time, dtype=m.coefficient_dtype, device=m.device)
    (bands.write if bands.fits(m) else _squares)(m, out)
    support = m.terms[0][0].support
    if support.window is not None or support.segments is not None:
        for lo in range(0, m.time, chunk):
            hi = min(lo + chunk, m.time)
            out[:, :, lo:hi].masked_fill_(~support.mask((lo, hi), (0, m.time), m.device), 0)
    return out


def _squares(m: Mixer, out: Tensor) -> None:
    """alpha without its support into out, zero above the diagonal: blocks from merged windows, and between blocks."""
    chunk, windows = shape(m)
    known = Generators(m, chunk, windows, Buffers(), bounded=False)

    def write(rows: int, columns: int, square: Square, pair: int = 0) -> None:
        emit, inject = (x[:, :, pair] for x in (square.emit, square.inject))
        height, width = min(emit.shape[2], m.time - rows), min(inject.shape[2], m.time - columns)
        if height > 0:
            place = out[:, :, rows : rows + height, columns : columns + width].flatten(0, 1)
            emit, inject = (x.expand(m.batch, m.heads, -1, -1).flatten(0, 1) for x in (emit, inject))
            for to, left, right in zip(place, emit[:, :height], inject[:, :width], strict=True):
                torch.mm(left, right.mT, out=to)

    for lo in range(0, m.time, chunk * windows):
        for k, own in enumerate(known.block(lo).tril().unbind(2)):
            place = out[:, :, lo + k * chunk : lo + (k + 1) * chunk, lo + k * chunk : lo + (k + 1) * chunk]
            place.copy_(own[..., : place.shape[-2], : place.shape[-1]])
        length = chunk
        for square in known.squares():
            for pair in range(square.emit.shape[2]):
                write(lo + (2 * pair + 1) * length, lo + 2 * pair * length, square, pair)
            length *= 2
        for k in reversed(range(lo // length)):
            write(lo, k * length, known.against(k))
            known.back(k)
        known.keep()


def _averaging(pixels: int, time: int, device: torch.device) -> Tensor:
    """Averages over cells: (pixels, time) in float64. Cell p is floor(p time / pixels) up to the next, never empty."""
    cell = torch.arange(pixels, device=device)
    start = cell * time // pixels
    stop = torch.maximum((cell + 1) * time // pixels, start + 1)
    token = torch.arange(time, device=device)
    inside = (token >= start[:, None]) & (token < stop[:, None])
    return inside / inside.sum(-1, keepdim=True).to(torch.float64)
