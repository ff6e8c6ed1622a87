"""alpha v in training: the cheapest of the library's exact algorithms for the mixer and length at hand.

A short sequence is one chunk: its scores are the chunk's own block, which costs autograd less than a sweep. Delta rules
go through the scan with a backward pass by hand. A polynomial of long sequences is lifted. All else is the operator's.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from mixerlens.composition import Mixer, weigh
from mixerlens.design.lifting import lift, lifted_dim
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta, Diagonal, Identity, Rotation, Scalar, Shift, Unipotent
from mixerlens.normalizer import NoNormalizer
from mixerlens.operator.memory import TEMPORARY
from mixerlens.readout import Identity as IdentityReadout
from mixerlens.readout import Polynomial
from mixerlens.scans import gated_delta_scan
from mixerlens.shapes import spread

__all__ = ["act"]

SHORT = 128  # tokens up to which a sequence is one chunk
CLOSED = (Identity, Scalar, Diagonal, Rotation, Unipotent, Shift)  # kinds whose chunks cost no solve and no steps
LIFTED = (Identity, Scalar, Diagonal)  # kinds whose symmetric powers have a closed form too


def act(mixer: Mixer, values: Tensor) -> Tensor:
    """alpha @ values, (batch, time, heads, value_dim), differentiable: one of several exact ways."""
    return reduce(torch.add, (weigh(_one(d, values).transpose(1, 2), w).transpose(1, 2) for d, w in mixer.terms))


def _one(d: CoefficientDynamics, values: Tensor) -> Tensor:
    if _delta_rule(d) and not values.is_complex():
        return _scan(d, values)
    if isinstance(d.evolution, CLOSED) and not d.time_invariant and _short(d, values):
        return _chunk(d, values)
    liftable = isinstance(d.readout, Polynomial) and isinstance(d.evolution, LIFTED) and d.support.recurrent
    if liftable and 2 * lifted_dim(d.readout, d.dim) < d.time:
        d = lift(d)
    return d.operator() @ values


def _short(d: CoefficientDynamics, values: Tensor) -> bool:
    batch = max(d.batch, values.shape[0])
    return d.time <= SHORT and batch * d.heads * d.time**2 * d.dtype.itemsize <= TEMPORARY


def _chunk(d: CoefficientDynamics, values: Tensor) -> Tensor:
    """All tokens as one chunk: the readout and eta of its scores. A bidirectional support has no chunks."""
    if not d.support.causal:
        return d.operator() @ values
    whole = (0, d.time)
    scores = d.factors(*whole).intra
    if d.readout.linear and type(d.normalizer) is NoNormalizer and d.support.recurrent and d.support.segments is None:
        alpha = d.readout(scores)  # 0 above the diagonal already
    else:
        mask = d.support.mask(whole, whole, scores.device)
        scores = scores.expand(max(d.batch, scores.shape[0]), d.heads, -1, -1)
        alpha = d.normalizer.coefficients(d.readout, scores, mask.expand(scores.shape), whole)
    dtype = torch.promote_types(alpha.dtype, values.dtype)
    return (alpha.to(dtype) @ spread(values.transpose(1, 2), d.heads).to(dtype)).transpose(1, 2)


def _delta_rule(d: CoefficientDynamics) -> bool:
    """b k v^T enters and beta k k^T is taken off, with one k and b = beta: what the scan computes."""
    e = d.evolution
    return (
        isinstance(e, Delta)
        and isinstance(d.readout, IdentityReadout)
        and type(d.normalizer) is NoNormalizer
        and d.support.recurrent
        and d.support.segments is None
        and e.decay is None
        and not d.dtype.is_complex
        and _same(e.direction, d.key)
        and d.scaling is not None
        and _same(e.beta, d.scaling)
        and e.beta.shape[:2] == (max(d.batch, 1), d.time)
        and d.query.shape == d.key.shape == (d.batch, d.time, *d.key.shape[2:])
        and e.beta.shape[2] == d.heads
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """The same numbers in the same place, with the same history."""
    return (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
        and one.requires_grad == other.requires_grad
    )


def _scan(d: CoefficientDynamics, values: Tensor) -> Tensor:
    e = d.evolution
    assert isinstance(e, Delta) and d.scaling is not None
    dtype = torch.promote_types(d.dtype, values.dtype)
    shape = (d.batch, d.time, d.heads)
    values = spread(values, d.heads, 2).expand(d.batch, d.time, d.heads, -1)
    decay = None if e.log_decay is None else e.log_decay.expand(shape).to(dtype)
    beta = d.scaling.expand(shape).to(dtype)
    return gated_delta_scan(d.query.to(dtype), d.key.to(dtype), values.to(dtype), decay, beta)[0]
