"""Differential attention: two softmax attentions over the same values, the second taken off the first."""

from __future__ import annotations

from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.composition import CoefficientSum
from mixerlens.families.attention import softmax_attention
from mixerlens.families.checks import tensors
from mixerlens.families.family import Family, register

__all__ = ["differential_attention"]


def differential_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time kv_heads dim"],
    second_query: Inexact[Tensor, "batch time heads dim"],
    second_key: Inexact[Tensor, "batch time kv_heads dim"],
    weight: float | Float[Tensor, "#batch #time #heads"],
    scale: float | None = None,
    rope: Float[Tensor, " pairs"] | None = None,
    rope_layout: str = "half",
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientSum:
    """y_i = sum_j (softmax_j(scale q_i^T k_j) - lambda softmax_j(scale q'_i^T k'_j)) v_j.

    query, second_query (batch, time, heads, dim), key, second_key (batch, time, kv_heads, dim), kv_heads dividing
    heads. weight: lambda, a number or (batch | 1, time | 1, heads | 1), leading axes may be left out. scale, rope,
    rope_layout, segments: as in softmax_attention, for both. The model's values have twice the width and its norm acts
    outside. A sum of two systems: alpha may be negative and its rows sum to 1 - lambda. State: grows with the sequence.
    Source: arXiv 2410.05258.
    """
    tensors(query=query, key=key, second_query=second_query, second_key=second_key)

    def attention(q: Tensor, k: Tensor):
        return softmax_attention(q, k, scale=scale, rope=rope, rope_layout=rope_layout, segments=segments)

    return CoefficientSum((attention(query, key), attention(second_query, second_key)), (1.0, -weight))


register(
    Family(
        name="differential_attention",
        title="Differential attention",
        function=differential_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "second_query": d.vectors(),
            "second_key": d.vectors(),
            "weight": d.uniform(d.heads),
            "value": d.values(),
        },
        evolution="I, twice",
        key="k / sqrt n ; q and k' / sqrt n ; q'",
        readout="exp",
        normalizer="row sum each",
        state="grows",
        recurrence="grows",
        source="arXiv 2410.05258",
        note="two systems sharing v, weights 1 and -lambda; alpha may be negative",
    ),
)
