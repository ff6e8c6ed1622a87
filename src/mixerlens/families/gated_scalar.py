"""Gated linear recurrences with one number of state a channel: h_t = a_t h_{t-1} + b_t v_t, y_t = h_t."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Scalar
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["dechunk_ema", "min_gru", "min_lstm", "rg_lru"]


def rg_lru(
    log_decay: Float[Tensor, "batch time channels"],
    input_gate: Float[Tensor, "batch time channels"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """h_t = a_t h_{t-1} + sqrt(1 - a_t^2) i_t x_t, y_t = h_t with a_t = exp(log_decay_t): Griffin's RG-LRU.

    log_decay (batch, time, channels) <= 0 is -c r_t softplus(Lambda); input_gate i_t likewise. Values x (batch, time,
    channels, 1), a head a channel. log_decay -inf resets the state, with factor 1 on that token, as the model does
    where a document begins; segments alone cut the state and leave the factor. State: 1 number a channel. At log_decay
    0 the derivative of the factor is infinite; models clip it, this does not. Source: arXiv 2402.19427.
    """
    tensors(log_decay=log_decay, input_gate=input_gate)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1], -c r softplus(Lambda)")
    share = torch.sqrt(-torch.expm1(2 * wide(log_decay)))  # no cancellation where a is close to 1
    return _recurrence(Scalar(log_decay=log_decay), share * input_gate, segments, log_decay, input_gate)


def min_gru(
    update_gate: Float[Tensor, "batch time channels"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """h_t = (1 - z_t) h_{t-1} + z_t v_t, y_t = h_t: a GRU whose gate and candidate do not see the past.

    update_gate z (batch, time, channels) in (0, 1), after the sigmoid. Values v (batch, time, channels, 1) are the
    candidates, a head a channel. State: 1 number a channel. Source: arXiv 2410.01201. The GRU itself, whose gate and
    candidate read h_{t-1}, is not linear in v and is no coefficient dynamics.
    """
    tensors(update_gate=update_gate)
    return _recurrence(Scalar(decay=1 - wide(update_gate)), update_gate, segments, update_gate)


def min_lstm(
    forget_gate: Float[Tensor, "batch time channels"],
    input_gate: Float[Tensor, "batch time channels"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """h_t = (f_t h_{t-1} + i_t v_t) / (f_t + i_t), y_t = h_t: minLSTM with its two gates made to sum to one.

    forget_gate, input_gate (batch, time, channels) in (0, 1), after the sigmoid. Values (batch, time, channels, 1), a
    head a channel. State: 1 number a channel. Source: arXiv 2410.01201.
    """
    tensors(forget_gate=forget_gate, input_gate=input_gate)
    forget, entry = wide(forget_gate), wide(input_gate)
    total = forget + entry
    if bool((total <= 0).any()):
        raise InputError(f"forget_gate + input_gate must be positive, the smallest is {float(total.min()):.3g}")
    return _recurrence(Scalar(decay=forget / total), entry / total, segments, forget_gate, input_gate)


def dechunk_ema(
    probability: Float[Tensor, "batch time heads"],
    boundary: Bool[Tensor, "batch time"] | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """h_t = (1 - p_t) h_{t-1} + p_t v_t, y_t = h_t: the smoothing of H-Net's dechunking layer.

    probability p (batch, time, heads): how sure the router is that a chunk begins; one head serves all channels of the
    values (batch, time, heads, channels). Without boundary the tokens are the chunks. With boundary (batch, time),
    true where a chunk begins, p counts there only: between boundaries the state stays, which is the model's repetition
    of a chunk's vector over its tokens. State: 1 number a channel. The first p is 1 in the model; the final product
    with a confidence, which is 1 in the forward pass, is outside. Source: arXiv 2507.07955.
    """
    tensors(probability=probability)
    if boundary is not None:
        if boundary.dtype != torch.bool or boundary.shape != probability.shape[:2]:
            raise InputError(
                f"boundary must be booleans (batch, time) {tuple(probability.shape[:2])}, "
                f"got {boundary.dtype} {tuple(boundary.shape)}"
            )
        probability = torch.where(boundary[..., None], probability, 0)
    return _recurrence(Scalar(decay=1 - wide(probability)), probability, segments, probability)


def _recurrence(evolution: Scalar, scaling: Tensor, segments: Tensor | None, *gates: Tensor) -> CoefficientDynamics:
    """One number of state a channel, read as it is, in the working precision of the gates."""
    for gate in gates:
        if gate.dim() != 3:
            raise InputError(f"gates must be (batch, time, channels), got {tuple(gate.shape)}")
    dtype = torch.result_type(gates[0], gates[-1])
    one = torch.ones(1, 1, 1, 1, dtype=dtype, device=scaling.device)
    return CoefficientDynamics(one, one, evolution, scaling=scaling, support=Support(segments=segments))


register(
    Family(
        name="rg_lru",
        title="RG-LRU (Griffin, RecurrentGemma)",
        function=rg_lru,
        example=lambda d: {"log_decay": d.log_decays(), "input_gate": d.gates(), "value": d.values(1)},
        evolution="a_t",
        key="sqrt(1 - a_t^2) i_t ; 1",
        state="1",
        source="arXiv 2402.19427",
        note="a head a channel; log_decay -inf resets",
    ),
    Family(
        name="min_gru",
        title="minGRU",
        function=min_gru,
        example=lambda d: {"update_gate": d.gates(), "value": d.values(1)},
        evolution="1 - z_t",
        key="z_t ; 1",
        state="1",
        source="arXiv 2410.01201",
        note="a head a channel",
    ),
    Family(
        name="min_lstm",
        title="minLSTM",
        function=min_lstm,
        example=lambda d: {"forget_gate": d.gates(low=0.05), "input_gate": d.gates(low=0.05), "value": d.values(1)},
        evolution="f_t / (f_t + i_t)",
        key="i_t / (f_t + i_t) ; 1",
        state="1",
        source="arXiv 2410.01201",
        note="a head a channel",
    ),
    Family(
        name="hnet_dechunk",
        title="H-Net dechunking EMA",
        function=dechunk_ema,
        example=lambda d: {
            "probability": d.uniform(d.batch, d.time, 1),
            "boundary": d.uniform(d.batch, d.time) < 0.4,
            "value": d.values(heads=1),
        },
        evolution="1 - p_t",
        key="p_t ; 1",
        state="1",
        source="arXiv 2507.07955",
        note="p counts at chunk boundaries only, so the state repeats a chunk over its tokens",
    ),
)
