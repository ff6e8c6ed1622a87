"""HiPPO-LegS (arXiv 2008.07669): ``c'(t) = -A c / t + b f / t``, solved for a held signal; lag operators in general."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, per_head, read


def hippo_legs(*, value: Tensor, query: Tensor, length: int | None = None, segments: Tensor | None = None) -> Tensor:
    """``y_t = q_t . c_t`` with ``c_t = expm(A log(t / (t + 1))) (c_{t-1} - A^{-1} b f_t) + A^{-1} b f_t``.

    t counts from 0 in each segment, where the first factor is the limit, 0.  value (batch, time, heads, value_dim);
    query (batch, time | 1, heads | 1, state).  Returns (batch, time, heads, value_dim) float64.
    """
    if length is not None and length != value.shape[1]:
        raise ValueError(f"length {length} but the values have {value.shape[1]} tokens")
    heads = max(query.shape[2], value.shape[2])
    q, f = per_head(query, heads), per_head(value, heads)
    n = torch.arange(q.shape[3], dtype=torch.float64)
    b = torch.sqrt(2 * n + 1)
    A = torch.tril(b[:, None] * b, -1) + torch.diag(n + 1)
    still = torch.linalg.solve(A, b)  # where the coefficients rest under a constant signal 1
    keep, real = boundaries(segments, f.shape[0], f.shape[1])
    c = torch.zeros(f.shape[0], heads, q.shape[3], f.shape[3], dtype=torch.float64)
    clock = torch.zeros(f.shape[0], dtype=torch.float64)
    rows = []
    for t in range(f.shape[1]):
        clock = torch.where(keep[t][:, 0, 0, 0] > 0, clock + 1, torch.zeros_like(clock))
        ratio = torch.where(clock > 0, clock / (clock + 1), 1.0)
        M = torch.linalg.matrix_exp(A * torch.log(ratio)[:, None, None])
        M = torch.where(clock[:, None, None] > 0, M, 0.0)[:, None]
        rest = real[t] * still[:, None] * f[:, t, :, None, :]
        c = M @ (keep[t] * c - rest) + rest
        rows.append(real[t][..., 0] * read(q[:, min(t, q.shape[1] - 1)], c))
    return torch.stack(rows, dim=1)


def lag_operator_ssm(
    *, value: Tensor, lag: Tensor, projection: Tensor, query: Tensor, segments: Tensor | None = None
) -> Tensor:
    """``c_t = lag_t c_{t-1} + projection_t f_t``, ``y_t = q_t . c_t``.

    value (batch, time, heads, value_dim); lag (batch | 1, time, state, state); projection (batch | 1, time, state);
    query (batch, time, heads, state).  Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], value.shape[2])
    q, f, lag, projection = per_head(query, heads), per_head(value, heads), double(lag), double(projection)
    keep, real = boundaries(segments, f.shape[0], f.shape[1])
    c = torch.zeros(f.shape[0], heads, q.shape[3], f.shape[3], dtype=torch.float64)
    rows = []
    for t in range(f.shape[1]):
        write = projection[:, t, None, :, None] * f[:, t, :, None, :]
        c = keep[t] * (lag[:, t, None] @ c) + real[t] * write
        rows.append(real[t][..., 0] * read(q[:, t], c))
    return torch.stack(rows, dim=1)
