"""Differential attention (Ye et al., arXiv 2410.05258)."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import double
from .softmax import softmax_attention


def differential_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    second_query: Tensor,
    second_key: Tensor,
    weight: float | Tensor,
    scale: float | None = None,
    rope: Tensor | None = None,
    rope_layout: str = "half",
    segments: Tensor | None = None,
) -> Tensor:
    """The attention of query and key minus ``weight`` (..., heads) times that of second_query and second_key.

    query, second_query (batch, time, heads, dim); key, second_key, value (batch, time, kv_heads, dim | value_dim).
    Returns (batch, time, heads, value_dim) float64.
    """
    first, second = (
        softmax_attention(
            value=value, query=q, key=k, scale=scale, rope=rope, rope_layout=rope_layout, segments=segments
        )
        for q, k in ((query, key), (second_query, second_key))
    )
    return first - double(torch.as_tensor(weight))[..., None] * second
