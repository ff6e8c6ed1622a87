"""alpha @ v and its transpose: picks the one exact algorithm that fits, the same answer from each.

recurrent scan: linear readout, causal, no window. FFT: time-invariant. Row tiles: everything else.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.normalizer import NoNormalizer, PerToken, RowSum
from mixerlens.operator import scan, toeplitz
from mixerlens.operator.tiles import RowTiles
from mixerlens.shapes import spread, tile, wide

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


def forward(mixer: Mixer, values: Tensor) -> Tensor:
    """alpha @ v for value tiles (batch, heads, time, m)."""
    return reduce(torch.add, (weigh(_forward(d, values), weight) for d, weight in mixer.terms))


def transposed(mixer: Mixer, cotangents: Tensor) -> Tensor:
    """alpha^T @ w for tiles (batch, heads, time, m); the plain transpose."""
    return reduce(torch.add, (_transposed(d, weigh(cotangents, weight)) for d, weight in mixer.terms))


def diagonal(mixer: Mixer) -> Tensor:
    """alpha[i, i]: (batch, heads, time)."""
    return reduce(torch.add, (weigh(_diagonal(d)[..., None], weight) for d, weight in mixer.terms))[..., 0]


def _forward(d: CoefficientDynamics, values: Tensor) -> Tensor:
    if d.time_invariant:
        return toeplitz.convolve(*_promote(toeplitz.kernel(d), values))
    if d.recurrent:
        return _recurrent(d, values)
    outputs: list[list[Tensor]] = []
    for b in RowTiles(d):
        if b.lo == 0:
            outputs.append([])
        outputs[-1].append(_mix(*_promote(b.coefficients, values[:, b.heads.start : b.heads.stop, b.first : b.last])))
    return torch.cat([torch.cat(rows, -2) for rows in outputs], 1)


def _recurrent(d: CoefficientDynamics, values: Tensor) -> Tensor:
    if type(d.normalizer) is NoNormalizer:
        return scan.numerators(d, values)[0]
    if not isinstance(d.normalizer, RowSum):
        return scan.numerators(d, values)[0] / normalizer_rows(d)
    y, _ = scan.numerators(d, torch.cat([values, torch.ones_like(values[..., :1])], -1))
    return y[..., :-1] / eta_of(d, y[..., -1:])


def _transposed(d: CoefficientDynamics, cotangents: Tensor) -> Tensor:
    if d.time_invariant:
        return toeplitz.correlate(*_promote(toeplitz.kernel(d), cotangents))
    if d.recurrent:
        if type(d.normalizer) is not NoNormalizer:
            cotangents = cotangents / normalizer_rows(d)
        return scan.numerators(d, cotangents, transposed=True)[0]
    dtype = _result(d, cotangents)
    batch = max(d.batch, cotangents.shape[0])
    total = wide(torch.zeros(batch, d.heads, *cotangents.shape[2:], dtype=dtype, device=cotangents.device))
    for b in RowTiles(d):
        alpha, w = _promote(b.coefficients, cotangents[:, b.heads.start : b.heads.stop, b.lo : b.hi])
        total[:, b.heads.start : b.heads.stop, b.first : b.last] += alpha.mT @ w
    return total.to(dtype)


def _diagonal(d: CoefficientDynamics) -> Tensor:
    if not isinstance(d.normalizer, RowSum) or d.recurrent:
        return _own_diagonal(d)
    parts: dict[int, list[Tensor]] = {}
    for b in RowTiles(d):  # eta needs whole rows
        own = torch.arange(b.lo - b.first, b.hi - b.first, device=d.device)
        picked = b.coefficients.gather(-1, own[:, None].expand(*b.coefficients.shape[:2], -1, 1))
        parts.setdefault(b.heads.start, []).append(picked[..., 0])
    return torch.cat([torch.cat(p, -1) for p in parts.values()], 1)


def _own_diagonal(d: CoefficientDynamics) -> Tensor:
    """phi(b_i q_i . k_i) / eta_i: no A_t has acted on an impulse where it enters."""
    query, key = (spread(tile(x, 0, d.time), d.heads).to(d.dtype) for x in (d.query, d.key))
    scores = (query * key).sum(-1)
    if d.scaling is not None:
        scores = scores * tile(d.scaling, 0, d.time).to(d.dtype)
    alpha = d.readout(scores) / normalizer_rows(d)[..., 0]
    if d.support.segments is not None:
        alpha = torch.where((d.support.segments >= 0).to(d.device)[:, None], alpha, 0)
    return alpha.expand(d.batch, d.heads, -1)


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
