"""Titans with a linear memory (Behrouz et al., arXiv 2501.00663) and TTT-Linear (Sun et al., arXiv 2407.04620).

The memory is trained by gradient steps while it is read; the gradients here are written out as the losses define them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .loop import recurrence
from .plain import double, outer, per_head, read


def titans_linear(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    rate: Tensor,
    log_decay: Tensor,
    momentum: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """``S_t = momentum_t S_{t-1} - rate_t grad``, ``M_t = exp(log_decay_t) M_{t-1} + S_t``, ``y_t = M_t^T q_t``.

    grad is that of ``|M^T k_t - v_t|^2 / 2`` at M_{t-1}.  query, key (batch, time, heads | groups, dim); value
    likewise; rate, log_decay, momentum (batch, time, heads); no momentum is momentum 0.
    Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], rate.shape[2])
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    rate, decay = double(rate), torch.exp(double(log_decay))
    inertia = torch.zeros_like(rate) if momentum is None else double(momentum)
    dim = q.shape[3]

    def update(t: int, state: Tensor) -> tuple[Tensor, Tensor]:
        memory, surprise = state[:, :, :dim], state[:, :, dim:]
        theta = rate[:, t, :, None, None]
        surprise = inertia[:, t, :, None, None] * surprise - theta * outer(k[:, t], read(k[:, t], memory))
        memory = decay[:, t, :, None, None] * memory + surprise
        new = theta * outer(k[:, t], v[:, t])  # the values' part of the gradient
        return torch.cat([memory, surprise], 2), torch.cat([new, new], 2)

    return recurrence(torch.cat([q, torch.zeros_like(q)], 3), v, segments, update)


def ttt_linear(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    learning_rate: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``W_t = W_{t-1} - learning_rate_t grad`` with the gradient of ``|W^T k_t - v_t|^2`` at W_{t-1}, read by q_t.

    query, key (batch, time, heads | groups, dim); value likewise; learning_rate (batch, time, heads).
    Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], learning_rate.shape[2])
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    rate = double(learning_rate)[..., None]

    def update(t: int, state: Tensor) -> tuple[Tensor, Tensor]:
        slope = 2 * (read(k[:, t], state) - v[:, t])  # of the loss, by W^T k
        return state, -outer(k[:, t], rate[:, t] * slope)

    return recurrence(q, v, segments, update)
