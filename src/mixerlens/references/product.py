"""DeltaProduct, gated or not (Siems et al., arXiv 2502.10297), and PRISM (Jiang et al., arXiv 2602.10796).

Every micro-step of a token has its own key and its own value.  A mixer is linear in the values, so that what one
micro-step contributes is the paper's loop with the values of the other micro-steps set to zero; the mixer's own output
is the sum of the contributions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .loop import recurrence
from .plain import double, outer, per_head, read


def delta_product(*, value: Tensor, query: Tensor, key: Tensor, beta: Tensor, segments: Tensor | None = None) -> Tensor:
    """``S <- S + beta_m k_m (v_m - S^T k_m)^T`` for the micro-steps m of a token in turn, then ``y_t = S^T q_t``.

    query (batch, time, heads | groups, dim); key (batch, time, heads | groups, steps, dim); beta
    (batch, time, heads, steps); value (batch, time, heads * steps, value_dim), head h's micro-steps side by side.
    Returns the contribution of every micro-step, (batch, time, heads * steps, value_dim) float64.
    """
    gate = torch.zeros_like(double(beta[..., 0]))
    return gated_delta_product(value=value, query=query, key=key, log_decay=gate, beta=beta, segments=segments)


def gated_delta_product(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """As :func:`delta_product`, from ``exp(log_decay_t) S_{t-1}``; log_decay (batch, time, heads) <= 0."""
    q, k, v = _micro_steps(query, key, value, beta.shape[2])
    decay, beta = torch.exp(double(log_decay)), double(beta)

    def update(t: int, state: Tensor) -> tuple[Tensor, Tensor]:
        kept, written = decay[:, t, :, None, None] * state, torch.zeros_like(state)
        for m in range(k.shape[3]):
            k_m, b = k[:, t, :, m], beta[:, t, :, m, None]
            kept = kept - outer(k_m, b * read(k_m, kept))
            written = written + outer(k_m, b * (v[:, t, :, m] - read(k_m, written)))
        return kept, written

    return _contributions(recurrence(q, v[:, :, :, 0], segments, update), k.shape[3])


def prism(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    gain: Tensor,
    erase: Tensor,
    beta: Tensor,
    log_decay: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``S_t = exp(log_decay_t) (S_{t-1} - beta_t e_t (S_{t-1}^T e_t)^T) + sum_m gain_m k_m v_m^T``, read by q_t.

    key, gain and value as key, beta and value of :func:`delta_product`; erase e (batch, time, heads | groups, dim);
    beta, log_decay (batch, time, heads).  Returns the contribution of every micro-step.
    """
    q, k, v = _micro_steps(query, key, value, gain.shape[2])
    e, beta, gain, decay = per_head(erase, q.shape[2]), double(beta), double(gain), torch.exp(double(log_decay))

    def update(t: int, state: Tensor) -> tuple[Tensor, Tensor]:
        kept = state - outer(e[:, t], beta[:, t, :, None] * read(e[:, t], state))
        writes = [outer(k[:, t, :, m], gain[:, t, :, m, None] * v[:, t, :, m]) for m in range(k.shape[3])]
        return decay[:, t, :, None, None] * kept, torch.stack(writes).sum(0)

    return _contributions(recurrence(q, v[:, :, :, 0], segments, update), k.shape[3])


def _micro_steps(query: Tensor, key: Tensor, value: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of every head.

    value becomes (batch, time, heads, steps, steps * value_dim): channels of their own for each micro-step's values,
    zero at all other micro-steps.
    """
    heads, steps = max(query.shape[2], key.shape[2], heads), key.shape[3]
    k = double(key).repeat_interleave(heads // key.shape[2], dim=2)
    v = per_head(value, heads * steps).unflatten(2, (heads, steps))
    own = torch.zeros(*v.shape[:4], steps, v.shape[4], dtype=v.dtype)
    for m in range(steps):
        own[:, :, :, m, m] = v[:, :, :, m]
    return per_head(query, heads), k, own.flatten(4)


def _contributions(rows: Tensor, steps: int) -> Tensor:
    """(batch, time, heads, steps * value_dim) -> (batch, time, heads * steps, value_dim)."""
    return rows.unflatten(3, (steps, -1)).flatten(2, 3)
