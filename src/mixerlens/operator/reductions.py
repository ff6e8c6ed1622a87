"""Summaries of |alpha| (and pooled maps of alpha): any number of them in one pass over the row blocks.

Time O(L^2) a pass, memory O(L). Rows and columns without mass are legal; entries off the support count as zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.errors import InputError
from mixerlens.operator.tiles import RowBlock, RowTiles


class Reduction(Protocol):
    """One summary: sees every row block once, then says its result."""

    def start(self, d: Any) -> None:
        """Before the first block; d is the mixer, of one system or a sum."""

    def update(self, block: RowBlock, size: Tensor) -> None:
        """One row block; size is |coefficients|, shared by all summaries of the pass."""

    def result(self) -> Tensor | tuple[Tensor, Tensor]: ...


def reduce(
    d: Mixer, wanted: Sequence[Reduction], progress: Callable[[float], None] | None = None
) -> list[Tensor | tuple[Tensor, Tensor]]:
    """All the wanted summaries in one pass; ``progress`` is told the fraction done."""
    for reduction in wanted:
        reduction.start(d)
    for block in RowTiles(d):
        size = block.coefficients.abs()
        for reduction in wanted:
            reduction.update(block, size)
        if progress is not None:
            progress((block.heads.start + len(block.heads) * block.hi / d.time) / d.heads)
    return [reduction.result() for reduction in wanted]


def _zeros(d: Mixer, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    dtype = d.dtype.to_real() if dtype is None else dtype
    return torch.zeros(d.batch, d.heads, *shape, dtype=dtype, device=d.device)


def _heads(block: RowBlock) -> slice:
    return slice(block.heads.start, block.heads.stop)


class RowMass:
    """sum_j |alpha_ij|: (batch, time, heads)."""

    def start(self, d: Mixer) -> None:
        self.total = _zeros(d, d.time)

    def update(self, block: RowBlock, size: Tensor) -> None:
        self.total[:, _heads(block), block.lo : block.hi] += size.sum(-1)

    def result(self) -> Tensor:
        return self.total.transpose(1, 2)


class ColumnMass:
    """sum_i |alpha_ij|: (batch, time, heads)."""

    def start(self, d: Mixer) -> None:
        self.total = _zeros(d, d.time)

    def update(self, block: RowBlock, size: Tensor) -> None:
        self.total[:, _heads(block), block.first : block.last] += size.sum(-2)

    def result(self) -> Tensor:
        return self.total.transpose(1, 2)


class MeanDistance:
    """sum_j |alpha_ij| |i - j| / sum_j |alpha_ij| in tokens: (batch, time, heads); NaN where a row has no mass."""

    def start(self, d: Mixer) -> None:
        self.moment, self.mass = _zeros(d, d.time), _zeros(d, d.time)

    def update(self, block: RowBlock, size: Tensor) -> None:
        # sum_j |alpha_ij| |i - j|: columns at or before the row weigh i - j, later ones (bidirectional) j - i
        distance = block.lags().abs().to(size.dtype)
        moment = torch.einsum("bhrc,rc->bhr", size, distance)
        self.moment[:, _heads(block), block.lo : block.hi] += moment
        self.mass[:, _heads(block), block.lo : block.hi] += size.sum(-1)

    def result(self) -> Tensor:
        return (self.moment / self.mass).transpose(1, 2)


class MassByLag:
    """sum over rows of |alpha_{i, i-l}| for each lag l (|i - j| when bidirectional): (batch, heads, time)."""

    def start(self, d: Mixer) -> None:
        self.total = _zeros(d, d.time)

    def update(self, block: RowBlock, size: Tensor) -> None:
        summed = torch.zeros(*size.shape[:2], self.total.shape[-1], dtype=size.dtype, device=size.device)
        self.total[:, _heads(block)] += summed.index_add(-1, block.lags().abs().flatten(), size.flatten(-2))

    def result(self) -> Tensor:
        return self.total


class TopK:
    """The k entries of largest |alpha| in every row: values and column indices, both (batch, time, heads, k).

    Sorted by |alpha|; where the support of a row has fewer than k entries the index is -1 and the value 0.
    """

    def __init__(self, k: int) -> None:
        if not isinstance(k, int) or k < 1:
            raise InputError(f"k is {k!r}: ask for a whole number of entries a row, at least one")
        self.k = k

    def start(self, d: Mixer) -> None:
        self.values = _zeros(d, d.time, self.k, dtype=d.coefficient_dtype)
        self.indices = torch.full(self.values.shape, -1, dtype=torch.long, device=d.device)

    def update(self, block: RowBlock, size: Tensor) -> None:
        found, index = torch.where(block.mask, size, -1.0).topk(min(self.k, size.shape[-1]), dim=-1)
        picked = torch.where(found >= 0, block.coefficients.gather(-1, index), 0)
        where = (slice(None), _heads(block), slice(block.lo, block.hi), slice(0, index.shape[-1]))
        self.values[where] = picked
        self.indices[where] = torch.where(found >= 0, index + block.first, -1)

    def result(self) -> tuple[Tensor, Tensor]:
        return self.values.transpose(1, 2), self.indices.transpose(1, 2)


class Heatmap:
    """Mean of |alpha| (signed: of alpha) over each of pixels x pixels cells: (batch, heads, pixels, pixels).

    Cell p covers the tokens from floor(p T / pixels) up to the next cell's, and at least one token.
    """

    def __init__(self, pixels: int, signed: bool = False) -> None:
        if not isinstance(pixels, int) or pixels < 1:
            raise InputError(f"pixels is {pixels!r}: ask for a whole number, at least one")
        self.pixels, self.signed = pixels, signed

    def start(self, d: Mixer) -> None:
        dtype = d.coefficient_dtype if self.signed else d.dtype.to_real()
        self.pool = _pool(d, self.pixels).to(dtype)
        self.total = _zeros(d, self.pixels, self.pixels, dtype=dtype)

    def update(self, block: RowBlock, size: Tensor) -> None:
        part = block.coefficients if self.signed else size
        rows, columns = self.pool[:, block.lo : block.hi], self.pool[:, block.first : block.last]
        hit = torch.where(rows.abs().sum(-1) > 0)[0]  # the few pixel rows that these tokens fall in
        pooled = (rows[hit] @ part) @ columns.mT
        self.total[:, _heads(block), hit[0] : hit[-1] + 1] += pooled

    def result(self) -> Tensor:
        return self.total


def _pool(d: Mixer, pixels: int) -> Tensor:
    """Averaging matrix (pixels, time)."""
    p = torch.arange(pixels, device=d.device)
    start = p * d.time // pixels
    stop = torch.maximum((p + 1) * d.time // pixels, start + 1)
    t = torch.arange(d.time, device=d.device)
    inside = (t >= start[:, None]) & (t < stop[:, None])
    return inside / inside.sum(-1, keepdim=True).to(torch.float64)
