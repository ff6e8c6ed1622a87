"""RWKV-4 to 7. The first three read the state before they write: A_t = [[E_{t-1}, I], [0, 0]] on (s, p)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Diagonal, DiagonalPlusRankOne, ReadBeforeWrite, Scalar
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.exponentials import from_peak, held
from mixerlens.families.family import Family, register
from mixerlens.families.weights import weighted
from mixerlens.normalizer import RowSum
from mixerlens.shapes import spread, wide, working
from mixerlens.support import Support

__all__ = ["rwkv4", "rwkv5", "rwkv6", "rwkv7"]


def rwkv4(
    log_key: Float[Tensor, "batch time channels"],
    log_decay: Float[Tensor, " channels"],
    bonus: Float[Tensor, " channels"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_t = (sum_{j<t} e^{(t-1-j) w + k_j} v_j + e^{u + k_t} v_t) / (the same sum of the weights), w = log_decay.

    log_key: k, (batch, time, channels); log_decay: w, (channels,) <= 0; bonus: u, (channels,). A head a channel: values
    (batch, time, channels, 1). The receptance acts outside.

    State (s, p) with A = [[e^w I, I], [0, 0]], impulse (0, e^k), query (1, e^u), eta the row sum: 2 numbers a channel
    and 2 for eta. e^k may overflow, so the largest log key of each channel and sequence is subtracted; alpha does not
    change, and the state is in units of its exponential. Log keys too far apart for float32 are computed in float64,
    and refused with InputError where float64 is too narrow as well. Source: arXiv 2305.13048.
    """
    tensors(log_key=log_key, log_decay=log_decay, bonus=bonus)
    forgets("log_decay", log_decay, "pass the logarithm of the decay itself, -exp(time_decay)")
    if log_key.dim() != 3 or not log_decay.shape == bonus.shape == log_key.shape[-1:]:
        shapes = ", ".join(f"{tuple(x.shape)}" for x in (log_key, log_decay, bonus))
        raise InputError(f"log_key must be (batch, time, channels), log_decay and bonus (channels,): got {shapes}")
    below, _ = from_peak(log_key, segments)
    span = float((bonus.abs() - below.amin(1)).detach().max())
    dtype = held(span, log_key, "log keys and bonus of one channel").dtype
    weight, own = torch.exp(below).to(dtype).unsqueeze(-1), torch.exp(wide(bonus)).to(dtype)
    return CoefficientDynamics(
        query=torch.stack([torch.ones_like(own), own], -1)[None, None],
        key=torch.cat([torch.zeros_like(weight), weight], -1),
        evolution=ReadBeforeWrite(Scalar(log_decay=log_decay), previous=Scalar(log_decay=log_decay)),
        normalizer=RowSum(),
        support=Support(segments=segments),
    )


def rwkv5(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    log_decay: Float[Tensor, "heads dim"],
    bonus: Float[Tensor, "heads dim"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_t = (S_{t-1} + Diag(u) k_t v_t^T)^T r_t, S_t = Diag(exp(log_decay)) S_{t-1} + k_t v_t^T (Eagle).

    query: the receptance r, key (batch, time, heads, dim); bonus: u, log_decay <= 0, (heads, dim), constant in time.
    State dim a value channel and dim pending. Group norm and gate act outside. Source: arXiv 2404.05892.
    """
    tensors(query=query, key=key, log_decay=log_decay, bonus=bonus)
    if log_decay.dim() != 2:
        raise InputError(f"log_decay must be (heads, dim), constant in time: got {tuple(log_decay.shape)}; see rwkv6")
    return _read_before_write(query, key, log_decay, log_decay[None, None], bonus, segments)


def rwkv6(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    log_decay: Float[Tensor, "batch time heads dim"],
    bonus: Float[Tensor, "heads dim"],
    previous_log_decay: Float[Tensor, "batch heads dim"] | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_t = (S_{t-1} + Diag(u) k_t v_t^T)^T r_t, S_t = Diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T (Finch).

    As rwkv5 with log_decay (batch, time, heads, dim). The decay of token t is first felt by the read at t + 1, so that
    alpha_ij = r_i^T Diag(exp(sum of log_decay_l over j < l < i)) k_j for j < i. A sequence that is continued from a
    state (``operator.apply(v, initial_state=...)``) therefore needs the decay of the token before its first:
    previous_log_decay (batch, heads, dim). Source: arXiv 2404.05892.
    """
    tensors(query=query, key=key, log_decay=log_decay, bonus=bonus)
    if log_decay.dim() != 4:
        raise InputError(f"log_decay must be (batch, time, heads, dim), got {tuple(log_decay.shape)}")
    previous = None if previous_log_decay is None else previous_log_decay[:, None]
    return _read_before_write(query, key, log_decay, previous, bonus, segments)


def _read_before_write(
    query: Tensor, key: Tensor, log_decay: Tensor, previous: Tensor | None, bonus: Tensor, segments: Tensor | None
) -> CoefficientDynamics:
    """Queries (r, u r) and keys (0, k): an impulse waits one token before it merges, and is read beside with u."""
    forgets("log_decay", log_decay, "pass the logarithm of the decay itself, -exp of the model's parameter")
    if bonus.dim() != 2:
        raise InputError(f"bonus must be (heads, dim), got {tuple(bonus.shape)}")
    own = weighted(query=query, bonus=bonus[None, None]).to(working(query.dtype))
    return CoefficientDynamics(
        query=torch.cat([spread(query, own.shape[2], axis=2), own], -1),
        key=torch.cat([torch.zeros_like(key), key], -1),
        evolution=ReadBeforeWrite(
            Diagonal(log_decay=log_decay), previous=None if previous is None else Diagonal(log_decay=previous)
        ),
        support=Support(segments=segments),
    )


def rwkv7(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    log_decay: Float[Tensor, "batch time heads dim"],
    direction: Inexact[Tensor, "batch time heads dim"],
    rate: Inexact[Tensor, "batch time heads dim"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = (Diag(exp(log_decay_t)) - (a_t * d_t) d_t^T) S_{t-1} + k_t v_t^T, y_t = S_t^T r_t (Goose).

    query: the receptance r; key: k as it is written; direction: d, the removal key (the model normalises it); rate: a,
    the in-context learning rate a dimension; all (batch, time, heads, dim), log_decay <= 0. The norm of A_t can exceed
    1. The bonus (r_t^T (rho * k_t)) v_t is added to y outside. State dim a value channel. Source: arXiv 2503.14456.
    """
    tensors(query=query, key=key, log_decay=log_decay, direction=direction, rate=rate)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1]")
    removed = weighted(direction=direction, rate=rate)
    evolution = DiagonalPlusRankOne(-removed, direction, log_decay=log_decay)
    return CoefficientDynamics(query, key, evolution, support=Support(segments=segments))


register(
    Family(
        name="rwkv4",
        title="RWKV-4",
        function=rwkv4,
        example=lambda d: {
            "log_key": d.gates(low=-2.0, high=2.0),
            "log_decay": -d.uniform(d.heads),
            "bonus": d.normal(d.heads),
            "value": d.values(1),
        },
        evolution="[[e^w, 1], [0, 0]]",
        key="(0, e^k) ; (1, e^u)",
        normalizer="row sum",
        state="2 + 2",
        source="arXiv 2305.13048",
        note="a head a channel; the bonus u weighs the current token",
    ),
    Family(
        name="rwkv5",
        title="RWKV-5 (Eagle)",
        function=rwkv5,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "log_decay": -d.uniform(d.heads, d.dim),
            "bonus": d.normal(d.heads, d.dim),
            "value": d.values(),
        },
        evolution="[[Diag(w), I], [0, 0]]",
        key="(0, k) ; (r, u r)",
        state="n + n pending",
        source="arXiv 2404.05892",
        note="the bonus u weighs the current token",
    ),
    Family(
        name="rwkv6",
        title="RWKV-6 (Finch)",
        function=rwkv6,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "log_decay": d.log_decays(d.dim),
            "bonus": d.normal(d.heads, d.dim),
            "value": d.values(),
        },
        evolution="[[Diag(w_{t-1}), I], [0, 0]]",
        key="(0, k) ; (r, u r)",
        state="n + n pending",
        source="arXiv 2404.05892",
        note="the decay of token t is first felt by the read at t + 1",
    ),
    Family(
        name="rwkv7",
        title="RWKV-7 (Goose)",
        function=rwkv7,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "log_decay": d.log_decays(d.dim, most=0.6),
            "direction": d.units(),
            "rate": d.gates(d.dim),
            "value": d.values(),
        },
        evolution="Diag(w_t) - (a d) d^T",
        key="k ; r",
        state="n",
        source="arXiv 2503.14456",
        note="the norm of A_t can exceed 1; the bonus on the current token is added outside",
    ),
)
