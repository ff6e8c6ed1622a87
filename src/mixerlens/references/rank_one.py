"""Kimi Delta Attention (Kimi Team, arXiv 2510.26692), Gated DeltaNet-2 (Hatamizadeh et al., arXiv 2605.22791) and
Comba (Hu et al., arXiv 2506.02475).

All correct what the state holds: read it with an erase vector, and write what is missing along the key.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .loop import recurrence
from .plain import double, outer, per_head, read


def kimi_delta_attention(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``S' = Diag(exp(log_decay_t)) S_{t-1}``, ``S_t = S' + beta_t k_t (v_t - S'^T k_t)^T``, ``y_t = S_t^T q_t``.

    query, key (batch, time, heads | groups, dim), used as given; value likewise; log_decay (batch, time, heads, dim)
    <= 0; beta (batch, time, heads).  Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], beta.shape[2])
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    decay, beta = torch.exp(double(log_decay)), double(beta)

    def update(t: int, state: Tensor) -> tuple[Tensor, Tensor]:
        state = decay[:, t, :, :, None] * state
        missing = v[:, t] - read(k[:, t], state)
        return state, outer(k[:, t], beta[:, t, :, None] * missing)

    return recurrence(q, v, segments, update)


def gated_delta_net_2(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    erase: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``S' = Diag(exp(log_decay_t)) S_{t-1}``, ``S_t = S' - k_t (S'^T (erase_t . k_t))^T + k_t v_t^T``.

    As :func:`kimi_delta_attention`; erase (batch, time, heads, dim).  The values come with the write gate in them.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], erase.shape[2])
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    decay, erased = torch.exp(per_head(log_decay, heads)), per_head(erase, heads) * k

    def update(t: int, state: Tensor) -> tuple[Tensor, Tensor]:
        state = decay[:, t, :, :, None] * state
        return state - outer(k[:, t], read(erased[:, t], state)), outer(k[:, t], v[:, t])

    return recurrence(q, v, segments, update)


def comba(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    feedback: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``S_t = exp(log_decay_t) S_{t-1} + beta_t k_t (v_t - S_{t-1}^T p_t)^T``: read before the decay.

    query (with the output correction in it), key, feedback p (batch, time, heads | groups, dim); log_decay, beta
    (batch, time, heads).  Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], feedback.shape[2], value.shape[2], beta.shape[2])
    q, k, p, v = (per_head(x, heads) for x in (query, key, feedback, value))
    decay, beta = torch.exp(double(log_decay)), double(beta)

    def update(t: int, state: Tensor) -> tuple[Tensor, Tensor]:
        missing = v[:, t] - read(p[:, t], state)
        return decay[:, t, :, None, None] * state, outer(k[:, t], beta[:, t, :, None] * missing)

    return recurrence(q, v, segments, update)
