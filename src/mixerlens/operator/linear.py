"""Views that are linear in alpha: sums over rows and columns, moments of the lag, the signed map, alpha itself.

Each is a product with a few probes, so a mixer with a state answers by scans, in time and memory linear in the length
(`dense` apart, whose answer is quadratic). Other mixers answer by their row tiles.
"""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor

from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.operator import apply, blocks, scan
from mixerlens.operator.memory import TEMPORARY
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
    return torch.ones(m.batch, m.heads, m.time, 1, dtype=m.dtype.to_real(), device=m.device)


def lag_moments(mixer: Mixer, order: int) -> Tensor:
    """sum_j alpha_ij (i - j)^p for p = 0 .. order: (batch, heads, time, order + 1), in float64 (complex128).

    Powers of i and j of a long sequence cancel, so lags are counted from the start of the block of row i, and the
    state's own moments are moved along from block to block by sums.
    """
    total: Tensor | None = None
    for d, weight in mixer.to(torch.float64).terms:
        own = _swept_moments(d, order) if d.recurrent else _tiled_moments(d, order)
        own = weigh(own, weight)
        total = own if total is None else total + own
    assert total is not None
    return total


def _swept_moments(d: CoefficientDynamics, order: int) -> Tensor:
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
        parts.append(_moved(y, after[:, None]))
        state = _moved(state, torch.full((1, 1), float(hi - lo), dtype=torch.float64, device=d.device))
    return torch.cat(parts, 2) / apply.normalizer_rows(d)


def _moved(moments: Tensor, by: Tensor) -> Tensor:
    """sum (x + by)^p from sum x^p, p on the last axis; by (rows, 1)."""
    columns = moments.unbind(-1)
    moved = [
        sum(comb(p, k) * by[:, 0] ** (p - k) * columns[k] for k in range(p + 1))  # binomial
        for p in range(len(columns))
    ]
    return torch.stack([torch.as_tensor(m) for m in moved], -1)


def _tiled_moments(d: CoefficientDynamics, order: int) -> Tensor:
    total = torch.zeros(d.batch, d.heads, d.time, order + 1, dtype=d.coefficient_dtype, device=d.device)
    for b in RowTiles(d):
        lags = b.lags().to(total.dtype)
        rows = [(b.coefficients * lags**p).sum(-1) for p in range(order + 1)]
        total[:, b.heads.start : b.heads.stop, b.lo : b.hi] = torch.stack(rows, -1)
    return total


def signed_map(mixer: Mixer, pixels: int) -> Tensor:
    """Mean of alpha over the cells of ``reductions.Heatmap``: (batch, heads, pixels, pixels)."""
    m, pool = mixer, _averaging(pixels, mixer.time, mixer.device)
    total = torch.zeros(m.batch, m.heads, pixels, pixels, dtype=m.coefficient_dtype, device=m.device)
    size = max(1, TEMPORARY // (m.batch * m.time * pixels * m.dtype.itemsize))
    for start in range(0, m.heads, size):
        group = range(start, min(start + size, m.heads))
        columns = pool.mT.to(m.dtype.to_real()).expand(m.batch, len(group), -1, -1)
        pooled = apply.forward(m.select_heads(group), columns)
        total[:, group.start : group.stop] = (pool.to(wide(pooled).dtype) @ wide(pooled)).to(total.dtype)
    return total


def dense(d: CoefficientDynamics) -> Tensor:
    """alpha of a mixer with a state, (batch, heads, time, time): every column's impulse response, carried together."""
    out = torch.zeros(d.batch, d.heads, d.time, d.time, dtype=d.coefficient_dtype, device=d.device)
    kind = torch.promote_types(d.dtype, torch.float64)
    responses = torch.empty(d.batch, d.heads, d.dim, d.time, dtype=kind, device=d.device)
    stop = 0  # the columns that have entered
    for w in scan.chunks(d, 0, d.time):
        for k, carry in enumerate(w.carries):
            entered, lo, hi = responses[..., :stop], stop, stop + w.intra.shape[-1]
            out[..., lo:hi, :lo] = d.readout(w.emit[:, k] @ entered.to(d.dtype))
            out[..., lo:hi, lo:hi] = d.readout(w.intra[:, k])
            responses[..., :lo] = carry.forward(entered)
            responses[..., lo:hi] = w.inject[:, k].mT
            stop = hi
    return out.div_(apply.normalizer_rows(d))


def _averaging(pixels: int, time: int, device: torch.device) -> Tensor:
    """Averages over cells: (pixels, time) in float64. Cell p is floor(p time / pixels) up to the next, never empty."""
    cell = torch.arange(pixels, device=device)
    start = cell * time // pixels
    stop = torch.maximum((cell + 1) * time // pixels, start + 1)
    token = torch.arange(time, device=device)
    inside = (token >= start[:, None]) & (token < stop[:, None])
    return inside / inside.sum(-1, keepdim=True).to(torch.float64)
