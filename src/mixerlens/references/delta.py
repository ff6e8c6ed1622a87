"""DeltaNet (Yang et al., arXiv 2406.06484) and gated DeltaNet (Yang et al., arXiv 2412.06464).

Both are written as the correction they make: read what the state holds under k_t, write beta_t times the difference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read


def delta_net(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    beta: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T``, ``y_t = S_t^T q_t``.

    query, key (batch, time, heads | groups, dim), keys as given (the caller normalises); value likewise;
    beta (batch, time, heads).  Returns (batch, time, heads, value_dim) float64.
    """
    gate = torch.zeros_like(double(beta))
    return gated_delta_net(value=value, query=query, key=key, log_decay=gate, beta=beta, segments=segments)


def gated_delta_net(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """The delta rule on the decayed state ``exp(log_decay_t) S_{t-1}``: the gate comes before the correction.

    Shapes as :func:`delta_net`; log_decay (batch, time, heads) <= 0.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], beta.shape[2])
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    alpha, beta = torch.exp(double(log_decay)), double(beta)
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], heads, q.shape[3], v.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        state = keep[t] * alpha[:, t, :, None, None] * state
        correction = beta[:, t, :, None] * (v[:, t] - read(k[:, t], state))
        state = state + real[t] * outer(k[:, t], correction)
        rows.append(real[t][..., 0] * read(q[:, t], state))
    return torch.stack(rows, dim=1)
