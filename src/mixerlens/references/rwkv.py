"""RWKV-4 (Peng et al., arXiv 2305.13048), RWKV-5 and 6 (Peng et al., 2404.05892), RWKV-7 (Peng et al., 2503.14456)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read


def rwkv4(
    *,
    value: Tensor,
    log_key: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """Row by row: softmax over j of ``(t - 1 - j) w + k_j`` for j < t and ``u + k_t`` for j = t.

    log_key (batch, time, channels), log_decay and bonus (channels); value (batch, time, channels, value_dim).
    Returns (batch, time, channels, value_dim) float64.
    """
    k, w, u, v = double(log_key), double(log_decay), double(bonus), double(value)
    time = k.shape[1]
    if segments is None:
        segments = torch.zeros(1, time, dtype=torch.long)
    rows = []
    for t in range(time):
        lag = torch.arange(t - 1, -1, -1, dtype=torch.float64)[:, None]
        score = torch.cat([lag * w + k[:, :t], (u + k[:, t])[:, None]], dim=1)
        seen = (segments[:, : t + 1] == segments[:, t : t + 1]) & (segments[:, : t + 1] >= 0)
        score = score.masked_fill(~seen[..., None], -math.inf)
        top = score.amax(1, keepdim=True)
        weight = torch.exp(score - torch.where(top.isfinite(), top, 0.0).detach())
        total = weight.sum(1, keepdim=True)
        weight = weight / torch.where(total > 0, total, 1.0)
        rows.append((weight[..., None] * v[:, : t + 1]).sum(1))
    return torch.stack(rows, dim=1)


def rwkv5(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """:func:`rwkv6` with a decay (heads, dim) that is the same at every token."""
    constant = double(log_decay).expand(query.shape[0], query.shape[1], *log_decay.shape)
    return rwkv6(value=value, query=query, key=key, log_decay=constant, bonus=bonus, segments=segments)


def rwkv6(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``y_t = (S_{t-1} + diag(u) k_t v_t^T)^T r_t``, then ``S_t = diag(w_t) S_{t-1} + k_t v_t^T``, r the query.

    query, key, log_decay (batch, time, heads, dim), bonus (heads, dim); value (batch, time, heads, value_dim).
    Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], log_decay.shape[2])
    r, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    w, u = torch.exp(per_head(log_decay, heads)), double(bonus)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], heads, r.shape[3], v.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        write = real[t] * outer(k[:, t], v[:, t])
        state = keep[t] * state
        rows.append(read(r[:, t], real[t] * state + u[..., None] * write))
        state = w[:, t, :, :, None] * state + write
    return torch.stack(rows, dim=1)


def rwkv7(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    direction: Tensor,
    rate: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``S_t = S_{t-1} (diag(w_t) - d_t^T (a_t * d_t)) + v_t^T k_t``, rows as vectors, S (value_dim, dim).

    query (the receptance), key, log_decay, direction d, rate a (batch, time, heads, dim); value (batch, time, heads,
    value_dim).  ``y_t = S_t r_t``.  Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(x.shape[2] for x in (query, key, value, log_decay, direction, rate))
    r, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    w, d, a = torch.exp(per_head(log_decay, heads)), per_head(direction, heads), per_head(rate, heads)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], heads, v.shape[3], r.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        transition = torch.diag_embed(w[:, t]) - outer(d[:, t], a[:, t] * d[:, t])
        state = keep[t] * state @ transition + real[t] * outer(v[:, t], k[:, t])
        rows.append(real[t][..., 0] * (state @ r[:, t, :, :, None])[..., 0])
    return torch.stack(rows, dim=1)
