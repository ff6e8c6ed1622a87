"""Longhorn (Liu et al., arXiv 2407.14207): an implicit step of online regression, with the diagonal of ``k k^T``."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, read


def longhorn(*, value: Tensor, query: Tensor, key: Tensor, beta: Tensor, segments: Tensor | None = None) -> Tensor:
    """``S_t = S_{t-1} - d_t k_t^2 S_{t-1} + d_t k_t x_t`` with ``d_t = beta_t / (1 + beta_t k_t^T k_t)``.

    value (batch, time, channels, value_dim), 1 in the model; query, key (batch, time, state); beta (batch, time,
    channels).  Returns (batch, time, channels, value_dim) float64.
    """
    q, k, b, x = double(query), double(key), double(beta), double(value)
    keep, real = boundaries(segments, x.shape[0], x.shape[1])
    state = torch.zeros(x.shape[0], b.shape[2], k.shape[2], x.shape[3], dtype=torch.float64)
    rows = []
    for t in range(x.shape[1]):
        size = (k[:, t] * k[:, t]).sum(-1)[:, None]
        d = (b[:, t] / (1 + b[:, t] * size))[..., None]  # (batch, channels, 1)
        state = keep[t] * state
        forgotten = (d * k[:, t, None, :] ** 2)[..., None] * state
        state = state - forgotten + real[t] * outer(d * k[:, t, None, :], x[:, t])
        rows.append(real[t][..., 0] * read(q[:, t, None, :], state))
    return torch.stack(rows, dim=1)
