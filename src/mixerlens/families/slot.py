"""Gated slot attention: two chained systems, the second asked with the softmax of what the first reads."""

from __future__ import annotations

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Scalar
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.families.hgrn import open_part
from mixerlens.families.linear import gated_linear_attention
from mixerlens.shapes import spread
from mixerlens.support import Support

__all__ = ["gated_slot_attention"]


def gated_slot_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time groups dim"],
    log_forget: Float[Tensor, "batch time groups slots"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """K_t = Diag(f_t) K_{t-1} + (1 - f_t) k_t^T, V_t likewise with v_t, y_t = V_t^T softmax(K_t q_t).

    query (batch, time, heads, dim), already scaled; key and log_forget (batch, time, groups, dim | slots), log f <= 0.
    K and V hold a row a slot. K q is linear attention too: its coefficients q_i^T k_j act on the values 1 - f_j, and
    each slot decays by itself, so the first system has a head a slot. What it reads makes the queries of the second,
    which is what this returns: alpha acts on v and holds for this sequence. State slots a value channel, and slots x
    dim a head for K. Source: arXiv 2409.07146.
    """
    tensors(query=query, key=key, log_forget=log_forget)
    forgets("log_forget", log_forget, "it is the logarithm of a gate in (0, 1]")
    if query.dim() != 4 or log_forget.dim() != 4 or query.shape[2] % log_forget.shape[2]:
        shapes = f"{tuple(query.shape)} and {tuple(log_forget.shape)}"
        raise InputError(f"query (batch, time, heads, dim), log_forget (batch, time, groups, slots): got {shapes}")
    heads, slots = query.shape[2], log_forget.shape[3]
    gate = spread(log_forget, heads, axis=2)
    written = open_part(gate)
    first = CoefficientDynamics(query, key, Scalar(log_decay=gate.flatten(2)), support=Support(segments=segments))
    scores = (first.operator() @ written.flatten(2)[..., None]).unflatten(2, (heads, slots))[..., 0]
    return gated_linear_attention(torch.softmax(scores, -1), written, gate, segments)


register(
    Family(
        name="gated_slot_attention",
        title="Gated slot attention",
        function=gated_slot_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "log_forget": d.log_decays(d.dim + 1),
            "value": d.values(),
        },
        evolution="Diag(f_t)",
        key="1 - f ; softmax(K_t q)",
        state="M slots",
        source="arXiv 2409.07146",
        note="two chained systems: the second query is nonlinear in the history; the keys take M x n a head",
    ),
)
