"""alpha @ v and its transpose: picks the one exact algorithm that fits, the same answer from each.

recurrent scan: linear readout, causal, no window. FFT: time-invariant. Row tiles: everything else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.normalizer import PerToken, RowSum
from mixerlens.operator import scan, toeplitz
from mixerlens.operator.tiles import RowTiles
from mixerlens.shapes import wide

_TERMS = 128  # tokens summed in the working precision before the sum goes on in float64


def normalizer_rows(d: CoefficientDynamics) -> Tensor:
    """eta as (batch | 1, heads | 1, time, 1), for linear readouts; 1 for rows without support."""
    one = torch.ones(1, 1, d.time, 1, dtype=d.dtype.to_real(), device=d.device)
    if isinstance(d.normalizer, PerToken):
        return d.normalizer.rows((0, d.time), one)
    if not isinstance(d.normalizer, RowSum):
        return one
    ones = torch.ones(d.batch, d.heads, d.time, 1, dtype=d.dtype.to_real(), device=d.device)
    total, _ = scan.numerators(d, ones)
    return eta_of(d, total)


def eta_of(d: CoefficientDynamics, total: Tensor) -> Tensor:
    """eta from the row sums (batch, heads, time, 1) of a row-sum normaliser; 1 for rows without support."""
    assert isinstance(d.normalizer, RowSum)
    eta = d.normalizer.eta(total, d.readout, (0, d.time))
    if d.support.segments is None:
        return eta
    return torch.where((d.support.segments >= 0).to(eta.device)[:, None, :, None], eta, 1)


def forward(d: CoefficientDynamics, values: Tensor) -> Tensor:
    """alpha @ v for value tiles (batch, heads, time, m)."""
    if d.time_invariant:
        return toeplitz.convolve(*_promote(toeplitz.kernel(d), values))
    if d.recurrent:
        y, _ = scan.numerators(d, values)
        return y / normalizer_rows(d)
    outputs: list[list[Tensor]] = []
    for b in RowTiles(d):
        if b.lo == 0:
            outputs.append([])
        outputs[-1].append(_mix(*_promote(b.coefficients, values[:, b.heads.start : b.heads.stop, b.first : b.last])))
    return torch.cat([torch.cat(rows, -2) for rows in outputs], 1)


def transposed(d: CoefficientDynamics, cotangents: Tensor) -> Tensor:
    """alpha^T @ w for tiles (batch, heads, time, m); the plain transpose."""
    if d.time_invariant:
        return toeplitz.correlate(*_promote(toeplitz.kernel(d), cotangents))
    if d.recurrent:
        return scan.transposed_numerators(d, cotangents / normalizer_rows(d))
    dtype = _result(d, cotangents)
    batch = max(d.batch, cotangents.shape[0])
    total = wide(torch.zeros(batch, d.heads, *cotangents.shape[2:], dtype=dtype, device=cotangents.device))
    for b in RowTiles(d):
        alpha, w = _promote(b.coefficients, cotangents[:, b.heads.start : b.heads.stop, b.lo : b.hi])
        total[:, b.heads.start : b.heads.stop, b.first : b.last] += alpha.mT @ w
    return total.to(dtype)


def _mix(alpha: Tensor, values: Tensor) -> Tensor:
    """alpha @ values. Rows that do not decay sum every token, which costs float32 a digit at a thousand."""
    if alpha.dtype == wide(alpha).dtype or alpha.shape[-1] <= _TERMS:
        return alpha @ values
    total = wide(alpha[..., :_TERMS] @ values[..., :_TERMS, :])
    for a, v in zip(alpha.split(_TERMS, -1)[1:], values.split(_TERMS, -2)[1:], strict=True):
        total += a @ v
    return total.to(alpha.dtype)


def _result(d: CoefficientDynamics, values: Tensor) -> torch.dtype:
    return torch.promote_types(d.coefficient_dtype, values.dtype)


def _promote(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(left.dtype, right.dtype)
    return left.to(dtype), right.to(dtype)
