"""MesaNet (von Oswald et al., arXiv 2506.05233): at every token the ridge regression of all values on all keys."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read


def mesa_net(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    ridge: Tensor,
    segments: Tensor | None = None,
) -> Tensor:
    """``H_t = a_t H_{t-1} + beta_t k_t k_t^T``, ``G_t = a_t G_{t-1} + beta_t k_t v_t^T``, read as the fit
    ``y_t = G_t^T (H_t + R)^{-1} q_t``.

    R = Diag(ridge), ridge (heads, dim) positive; a_t = exp(log_decay_t); query, key (batch, time, heads | groups, dim);
    value likewise; log_decay, beta (batch, time, heads).  Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], beta.shape[2])
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    decay, beta, ridge = torch.exp(double(log_decay)), double(beta), torch.diag_embed(double(ridge))
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    pairs = torch.cat([k, v], 3)
    state = torch.zeros(v.shape[0], heads, k.shape[3], pairs.shape[3], dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        write = outer(k[:, t], beta[:, t, :, None] * pairs[:, t])
        state = keep[t] * decay[:, t, :, None, None] * state + real[t] * write
        gram, memory = state[..., : k.shape[3]], state[..., k.shape[3] :]
        solved = (torch.linalg.inv(gram + ridge) @ q[:, t, :, :, None])[..., 0]
        rows.append(real[t][..., 0] * read(solved, memory))
    return torch.stack(rows, dim=1)
