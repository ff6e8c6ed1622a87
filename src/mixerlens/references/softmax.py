"""Softmax attention (Vaswani et al., arXiv 1706.03762) and what today's checkpoints add to it.

Rotary embeddings: Su et al., arXiv 2104.09864.  Linear biases (ALiBi): Press et al., arXiv 2108.12409.  Grouped heads:
Ainslie et al., arXiv 2305.13245.  Soft-capped scores: Gemma 2, arXiv 2408.00118.  Attention sinks as one learned
logit a head in the denominator: gpt-oss, arXiv 2508.10925.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .plain import double, per_head, rotate


def softmax_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    scale: float | None = None,
    rope: Tensor | None = None,
    rope_layout: str = "half",
    alibi: Tensor | None = None,
    window: int | None = None,
    causal: bool = True,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """Row by row: ``y_i = sum_j softmax_j(scale q_i . k_j - slope |i - j|) v_j`` over the j that row i may see.

    query (batch, time, heads, dim); key (batch, time, kv_heads, dim); value (batch, time, kv_heads | heads, value_dim);
    rope: angles (dim/2) per position; alibi: slopes (heads); a causal window W sees i - W < j <= i and a bidirectional
    one |i - j| < W; sinks: logits (heads).  Returns (batch, time, heads, value_dim) float64.
    """
    heads, dim, time = query.shape[2], query.shape[3], query.shape[1]
    scale = 1 / math.sqrt(dim) if scale is None else scale
    q, k, v = double(query), per_head(key, heads), per_head(value, heads)
    if rope is not None:
        q, k = rotate(q, rope, rope_layout), rotate(k, rope, rope_layout)
    if segments is None:
        segments = torch.zeros(1, time, dtype=torch.long)
    place = torch.arange(time)
    rows = []
    for i in range(time):
        lag = i - place
        seen = (segments == segments[:, i : i + 1]) & (segments >= 0)  # (batch | 1, time)
        if causal:
            seen = seen & (lag >= 0)
        if window is not None:
            seen = seen & (lag.abs() < window)
        score = torch.einsum("bhd,bjhd->bhj", q[:, i], k) * scale
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        if alibi is not None:
            score = score - double(alibi)[:, None] * lag.abs()
        score = score.masked_fill(~seen[:, None, :], -math.inf)
        top = score.amax(-1, keepdim=True)
        if sinks is not None:
            top = torch.maximum(top, double(sinks)[:, None])
        top = torch.where(top.isfinite(), top, 0.0).detach()
        weight = torch.exp(score - top)
        total = weight.sum(-1, keepdim=True)
        if sinks is not None:
            total = total + torch.exp(double(sinks)[:, None] - top)
        weight = weight / torch.where(total > 0, total, 1.0)  # a padded row sees nothing and is zero
        rows.append(torch.einsum("bhj,bjhe->bhe", weight, v))
    return torch.stack(rows, dim=1)
