"""alpha v in training: the cheapest of the library's exact algorithms for the mixer and length at hand.

A short sequence is one chunk: its scores are the chunk's own block, which costs autograd less than a sweep. Where a
head is a channel of few numbers, its state goes from token to token. Delta rules, and their products, go through the
scan with a backward pass by hand. A polynomial of long sequences is lifted. All else is the operator's.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.composition import Mixer, weigh
from mixerlens.design.assembly import Assembly
from mixerlens.design.lifting import lift, lifted_dim
from mixerlens.design.parts.evolution.decay import decay_of
from mixerlens.design.spec import MixerSpec
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import (
    Delta,
    Diagonal,
    DiagonalPlusRankOne,
    Fenwick,
    Identity,
    Momentum,
    Rotation,
    Scalar,
    Shift,
    Trapezoid,
    Unipotent,
)
from mixerlens.normalizer import NoNormalizer, RowSum
from mixerlens.operator.apply import eta_of, normalizer_rows
from mixerlens.operator.memory import TEMPORARY
from mixerlens.readout import Identity as IdentityReadout
from mixerlens.readout import Polynomial, RealPart
from mixerlens.scans import gated_delta_scan
from mixerlens.shapes import spread, tile, wide

__all__ = ["act", "multiplied", "multiplies"]

SHORT = 128  # tokens up to which a sequence is one chunk, for the kinds that cost no solve
SOLVED_SHORT = 64  # and for those that solve a triangular system a chunk: twice as fast at 64, slower at 128
NARROW = 16  # numbers of a head's state up to which steps cost less than scores of all pairs
CLOSED = (Identity, Scalar, Diagonal, Rotation, Unipotent, Shift, Trapezoid)  # chunks that cost no solve and no steps
SOLVED = (DiagonalPlusRankOne, Momentum, Fenwick)
LIFTED = (Identity, Scalar, Diagonal)  # kinds whose symmetric powers have a closed form too


def act(mixer: Mixer, values: Tensor) -> Tensor:
    """alpha @ values, (batch, time, heads, value_dim), differentiable: one of several exact ways."""
    return reduce(torch.add, (weigh(_one(d, values).transpose(1, 2), w).transpose(1, 2) for d, w in mixer.terms))


def _one(d: CoefficientDynamics, values: Tensor) -> Tensor:
    if _delta_rule(d) and not values.is_complex():
        return _scan(d, values)
    if _narrow(d, values):
        return _steps(d, values)
    if not d.time_invariant and _short(d, values):
        return _chunk(d, values)
    liftable = isinstance(d.readout, Polynomial) and isinstance(d.evolution, LIFTED) and d.support.recurrent
    if liftable and 2 * lifted_dim(d.readout, d.dim) < d.time:
        d = lift(d)
    return d.operator() @ values


def _short(d: CoefficientDynamics, values: Tensor) -> bool:
    batch = max(d.batch, values.shape[0])
    tokens = SHORT if isinstance(d.evolution, CLOSED) else SOLVED_SHORT if isinstance(d.evolution, SOLVED) else 0
    return d.time <= tokens and batch * d.heads * d.time**2 * d.dtype.itemsize <= TEMPORARY


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


def _narrow(d: CoefficientDynamics, values: Tensor) -> bool:
    """An elementwise evolution on few numbers a head, the states of all tokens within the room of a temporary."""
    e, width = d.evolution, values.shape[-1] + d.normalizer.row_sum
    numbers = max(d.batch, values.shape[0]) * d.heads * d.dim * width * d.time
    return (
        isinstance(e, Scalar | Diagonal)
        and not d.time_invariant
        and d.readout.linear
        and d.support.recurrent
        and d.support.segments is None
        and not (values.is_complex() and isinstance(d.readout, RealPart))
        and d.dim * width <= NARROW
        and d.time <= SHORT
        and numbers * torch.promote_types(d.dtype, torch.float64).itemsize <= 2 * TEMPORARY
    )


def _steps(d: CoefficientDynamics, values: Tensor) -> Tensor:
    """S_t = a_t S_{t-1} + b_t k_t v_t^T, y_t = S_t^T q_t / eta_t, one token after the other, in float64."""
    e = d.evolution
    assert isinstance(e, Scalar | Diagonal)
    whole = (0, d.time)
    v = wide(spread(values.transpose(1, 2), d.heads))
    if d.normalizer.row_sum:
        v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    key, query = (wide(spread(tile(x, *whole), d.heads)) for x in (d.key, d.query))
    if d.scaling is not None:
        key = key * wide(tile(d.scaling, *whole)).unsqueeze(-1)
    decay = e.factor(*whole)  # (batch, heads, time[, dim])
    decay = spread(decay.unsqueeze(-1) if isinstance(e, Scalar) else decay, d.heads).unsqueeze(-1)
    written = key.unsqueeze(-1) * v.unsqueeze(-2)  # (batch, heads, time, dim, value_dim)
    written = written.expand(max(d.batch, v.shape[0]), d.heads, -1, -1, -1)
    states, state = [], None
    for a, w in zip(decay.unbind(2), written.unbind(2), strict=True):
        state = w if state is None else torch.addcmul(w, a, state)
        states.append(state)
    y = d.readout((query.unsqueeze(-1) * torch.stack(states, 2)).sum(-2))
    if isinstance(d.normalizer, RowSum):
        y = y[..., :-1] / eta_of(d, y[..., -1:])
    elif type(d.normalizer) is not NoNormalizer:
        y = y / normalizer_rows(d)
    return y.transpose(1, 2).to(torch.promote_types(d.coefficient_dtype, values.dtype))


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


def multiplies(spec: MixerSpec) -> bool:
    """Whether the mixer is a product of delta rules and nothing else: the scan over all micro-steps, one by one."""
    return (
        spec.evolution.kind == "delta_product"
        and (spec.readout.kind, spec.normalizer.kind, spec.support.kind) == ("identity", "none", "causal")
        and not any(v.imaginary for v in (spec.query, spec.key, spec.value))
    )


def multiplied(a: Assembly, values: Tensor) -> Tensor:
    """sum over micro-steps of alpha v, (batch, time, heads, value_dim), for values (batch, time, heads * steps, m).

    Micro-step m of a token is a delta rule of its own with k_m, beta_m and v_m; the token's decay, a number, acts at
    its first, before anything of it is written; its last is read.
    """
    heads, steps = a.spec.heads, a.spec.micro_steps
    batch, time = values.shape[:2]

    def apart(x: Tensor) -> Tensor:
        """(batch, time, heads, steps, ...) -> (batch, time * steps, heads, ...), in the values' dtype."""
        return spread(x, heads, 2).expand(batch, time, *x.shape[2:]).transpose(2, 3).flatten(1, 2).to(values.dtype)

    v = spread(values, heads * steps, 2).unflatten(2, (heads, steps))
    query = spread(a.query, heads, 2).unsqueeze(3).expand(-1, -1, -1, steps, -1)
    given = decay_of(a, a.spec.evolution.options["decay"])
    decay = None
    if given.named:
        log = torch.log(given.factor) if given.log is None else given.log
        decay = apart(pad(spread(log, heads, 2).unsqueeze(-1), (0, steps - 1)))
    key, beta = (spread(x, heads, 2) for x in (a.key, a["beta"]))
    y, _ = gated_delta_scan(apart(query), apart(key), apart(v), decay, apart(beta))
    return y[:, steps - 1 :: steps]
