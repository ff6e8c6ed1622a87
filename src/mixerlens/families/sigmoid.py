"""Sigmoid attention: every score is squashed by itself, no row sum."""

from __future__ import annotations

import math

from jaxtyping import Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.families.checks import tensors
from mixerlens.families.family import Family, register
from mixerlens.readout import Sigmoid
from mixerlens.support import Support

__all__ = ["sigmoid_attention"]


def sigmoid_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time kv_heads dim"],
    scale: float | None = None,
    bias: float | None = None,
    causal: bool = True,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = sum_j sigmoid(scale q_i^T k_j + bias) v_j.

    query (batch, time, heads, dim), key (batch, time, kv_heads, dim) with kv_heads dividing heads. scale: default
    1 / sqrt(dim). bias: added to every score, default -log(time), with time the tokens of this call: pass it where
    sequences are packed or cut. State: grows with the sequence. Source: arXiv 2409.04431.
    """
    tensors(query=query, key=key)
    key = key * (query.shape[-1] ** -0.5 if scale is None else scale)
    bias = -math.log(query.shape[1]) if bias is None else bias
    support = Support(causal, segments=segments)
    return CoefficientDynamics(query, key, readout=Sigmoid(-bias), support=support)


register(
    Family(
        name="sigmoid_attention",
        title="Sigmoid attention",
        function=sigmoid_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "bias": -math.log(d.time),
            "value": d.values(),
        },
        evolution="I",
        key="k / sqrt n ; q",
        readout="sigmoid(z - log T)",
        state="grows",
        recurrence="grows",
        source="arXiv 2409.04431",
        note="the bias is -log T unless it is given",
    ),
)
