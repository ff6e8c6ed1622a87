"""Gated linear recurrences with one number of state a channel: h_t = a_t h_{t-1} + b_t v_t, y_t = h_t."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Scalar
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["rg_lru"]


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
)
