"""Forgetting transformer (Lin et al., arXiv 2503.02130) and PaTH attention (Yang et al., arXiv 2505.16381)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .plain import double, per_head


def forgetting_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_forget: Tensor,
    scale: float | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """Row by row: softmax over j <= i of ``scale q_i . k_j + log(f_{j+1} ... f_i)``.

    query (batch, time, heads, dim); key, value (batch, time, kv_heads, dim | value_dim); log_forget (batch, time,
    heads).  Returns (batch, time, heads, value_dim) float64.
    """
    heads = query.shape[2]
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    q, k, v, gate = double(query), per_head(key, heads), per_head(value, heads), double(log_forget)
    rows, bias = [], torch.zeros(q.shape[0], heads, 0, dtype=torch.float64)
    for i in range(q.shape[1]):
        bias = torch.nn.functional.pad(bias + gate[:, i, :, None], (0, 1))
        score = torch.einsum("bhd,bjhd->bhj", q[:, i], k[:, : i + 1]) * scale + bias
        rows.append(_softmax(score, v[:, : i + 1], segments))
    return torch.stack(rows, dim=1)


def path_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    direction: Tensor,
    beta: Tensor,
    scale: float | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """Row by row: softmax over j <= i of ``scale k_j^T H_{j+1} ... H_i q_i``, the query walked back a token at a time.

    ``H_t = I - beta_t w_t w_t^T``.  query, direction (batch, time, heads, dim); key, value (batch, time, kv_heads,
    dim | value_dim); beta (batch, time, heads).  Returns (batch, time, heads, value_dim) float64.
    """
    heads = query.shape[2]
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    q, k, v = double(query), per_head(key, heads), per_head(value, heads)
    w, beta = per_head(direction, heads), double(beta)
    rows = []
    for i in range(q.shape[1]):
        walked, scores = q[:, i], []
        for j in range(i, -1, -1):
            scores.append((walked * k[:, j]).sum(-1) * scale)
            walked = walked - beta[:, j, :, None] * (walked * w[:, j]).sum(-1, keepdim=True) * w[:, j]
        rows.append(_softmax(torch.stack(scores[::-1], -1), v[:, : i + 1], segments))
    return torch.stack(rows, dim=1)


def _softmax(score: Tensor, v: Tensor, segments: Tensor | None) -> Tensor:
    """The last row's output: score (batch, heads, i + 1), v (batch, i + 1, heads, value_dim)."""
    if segments is not None:
        here = segments[:, : score.shape[-1]]
        seen = (here == here[:, -1:]) & (here >= 0)
        score = score.masked_fill(~seen[:, None], -math.inf)
    top = score.amax(-1, keepdim=True)
    weight = torch.exp(score - torch.where(top.isfinite(), top, 0.0).detach())
    total = weight.sum(-1, keepdim=True)
    return torch.einsum("bhj,bjhe->bhe", weight / torch.where(total > 0, total, 1.0), v)
