"""mLSTM (Beck et al., arXiv 2405.04517), without the stabiliser, which cancels in its output."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, per_head, read


def mlstm(
    *,
    value: Tensor,
    query: Tensor,
    key: Tensor,
    log_input: Tensor,
    log_forget: Tensor,
    floor: float | Tensor | None = 1.0,
    segments: Tensor | None = None,
) -> Tensor:
    """``C_t = f_t C_{t-1} + i_t k_t v_t^T``, ``n_t = f_t n_{t-1} + i_t k_t``, ``C_t^T q_t / max(|n_t^T q_t|, floor)``.

    query, key (batch, time, heads | groups, dim), query scaled; value likewise; log_input, log_forget (batch, time,
    heads); without a floor the output is not divided.  Returns (batch, time, heads, value_dim) float64.
    """
    heads = max(query.shape[2], key.shape[2], value.shape[2], log_input.shape[2])
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    gate, keeps = torch.exp(double(log_input)), torch.exp(double(log_forget))
    least = None if floor is None else double(floor).expand(v.shape[:3])
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    memory = torch.zeros(v.shape[0], heads, q.shape[3], v.shape[3], dtype=torch.float64)
    total = torch.zeros(v.shape[0], heads, q.shape[3], 1, dtype=torch.float64)
    rows = []
    for t in range(v.shape[1]):
        f, i = keep[t] * keeps[:, t, :, None, None], real[t] * gate[:, t, :, None, None]
        memory = f * memory + i * outer(k[:, t], v[:, t])
        total = f * total + i * k[:, t, :, :, None]
        y = real[t][..., 0] * read(q[:, t], memory)
        if least is not None:
            y = y / torch.maximum(read(q[:, t], total).abs(), least[:, t, :, None])
        rows.append(y)
    return torch.stack(rows, dim=1)
