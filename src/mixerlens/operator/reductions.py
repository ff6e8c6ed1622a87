"""Summaries of |alpha| (and pooled maps of alpha) by one pass over the row blocks: time O(L^2), memory O(L)."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.operator.tiles import RowBlock, RowTiles


def _zeros(d: CoefficientDynamics, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    dtype = d.dtype.to_real() if dtype is None else dtype
    return torch.zeros(d.batch, d.heads, *shape, dtype=dtype, device=d.device)


def _place(total: Tensor, block: RowBlock, part: Tensor, *where: slice) -> None:
    total[:, block.heads.start : block.heads.stop, *where] += part


def row_mass(d: CoefficientDynamics) -> Tensor:
    """sum_j |alpha_ij|: (batch, time, heads)."""
    total = _zeros(d, d.time)
    for b in RowTiles(d):
        _place(total, b, b.coefficients.abs().sum(-1), slice(b.lo, b.hi))
    return total.transpose(1, 2)


def column_mass(d: CoefficientDynamics) -> Tensor:
    """sum_i |alpha_ij|: (batch, time, heads)."""
    total = _zeros(d, d.time)
    for b in RowTiles(d):
        _place(total, b, b.coefficients.abs().sum(-2), slice(b.first, b.last))
    return total.transpose(1, 2)


def mean_distance(d: CoefficientDynamics) -> Tensor:
    """sum_j |alpha_ij| |i - j| / sum_j |alpha_ij| in tokens: (batch, time, heads); NaN where a row has no mass."""
    moment, mass = _zeros(d, d.time), _zeros(d, d.time)
    for b in RowTiles(d):
        size = b.coefficients.abs()
        _place(moment, b, (size * b.lags().abs()).sum(-1), slice(b.lo, b.hi))
        _place(mass, b, size.sum(-1), slice(b.lo, b.hi))
    return (moment / mass).transpose(1, 2)


def mass_by_lag(d: CoefficientDynamics) -> Tensor:
    """sum over rows of |alpha_{i, i-l}| for each lag l (|i - j| when bidirectional): (batch, heads, time)."""
    total = _zeros(d, d.time)
    for b in RowTiles(d):
        size = (b.coefficients.abs() * b.mask).flatten(-2)
        summed = torch.zeros(*size.shape[:2], d.time, dtype=size.dtype, device=size.device)
        _place(total, b, summed.index_add(-1, b.lags().abs().flatten(), size))
    return total


def top_k(d: CoefficientDynamics, k: int) -> tuple[Tensor, Tensor]:
    """The k entries of largest |alpha| in every row: values and column indices, both (batch, time, heads, k).

    Sorted by |alpha|; where the support of a row has fewer than k entries the index is -1 and the value 0.
    """
    if k < 1:
        raise InputError(f"k is {k}: ask for at least one entry a row")
    dtype = d.readout(torch.zeros(1, dtype=d.dtype)).dtype
    values = _zeros(d, d.time, k, dtype=dtype)
    indices = torch.full(values.shape, -1, dtype=torch.long, device=d.device)
    for b in RowTiles(d):
        size = torch.where(b.mask, b.coefficients.abs(), -1.0)
        found, index = size.topk(min(k, size.shape[-1]), dim=-1)
        picked = torch.where(found >= 0, b.coefficients.gather(-1, index), 0)
        where = (slice(None), slice(b.heads.start, b.heads.stop), slice(b.lo, b.hi), slice(0, index.shape[-1]))
        values[where] = picked
        indices[where] = torch.where(found >= 0, index + b.first, -1)
    return values.transpose(1, 2), indices.transpose(1, 2)


def heatmap(d: CoefficientDynamics, pixels: int, signed: bool) -> Tensor:
    """Mean of |alpha| (or of alpha) over each of pixels x pixels cells: (batch, heads, pixels, pixels).

    Cell p covers the tokens from floor(p T / pixels) up to the next cell's, and at least one token. Entries off the
    support count as zeros.
    """
    if pixels < 1:
        raise InputError(f"pixels is {pixels}: ask for at least one")
    pool = _pool(d.time, pixels, d)
    dtype = d.readout(torch.zeros(1, dtype=d.dtype)).dtype if signed else None
    total = _zeros(d, pixels, pixels, dtype=dtype)
    for b in RowTiles(d):
        part = b.coefficients if signed else b.coefficients.abs()
        weights = pool.to(part.dtype)
        _place(total, b, weights[:, b.lo : b.hi] @ (part @ weights[:, b.first : b.last].mT))
    return total


def _pool(time: int, pixels: int, d: CoefficientDynamics) -> Tensor:
    """Averaging matrix (pixels, time)."""
    p = torch.arange(pixels, device=d.device)
    start = p * time // pixels
    stop = torch.maximum((p + 1) * time // pixels, start + 1)
    t = torch.arange(time, device=d.device)
    inside = (t >= start[:, None]) & (t < stop[:, None])
    return inside / inside.sum(-1, keepdim=True).to(torch.float64)
