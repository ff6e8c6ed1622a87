"""The loop over tokens that the delta rules and memories share: only how a state goes on differs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .plain import boundaries, read


def recurrence(
    query: Tensor, value: Tensor, segments: Tensor | None, update: Callable[[int, Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """``y_t = S_t^T q_t`` with ``S_t = kept + written`` and ``kept, written = update(t, S_{t-1})``.

    query (batch, time, heads, dim) and value (batch, time, heads, value_dim) in double precision, a head each;
    S (batch, heads, dim, value_dim) starts at zero with each segment, and padding writes and reads nothing.
    Returns (batch, time, heads, value_dim).
    """
    batch, time, heads = value.shape[:3]
    keep, real = boundaries(segments, batch, time)
    state = torch.zeros(batch, heads, query.shape[3], value.shape[3], dtype=torch.float64)
    rows = []
    for t in range(time):
        kept, written = update(t, keep[t] * state)
        state = kept + real[t] * written
        rows.append(real[t][..., 0] * read(query[:, t], state))
    return torch.stack(rows, dim=1)
