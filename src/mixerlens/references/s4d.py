"""S4D (Gu et al., arXiv 2206.11893): a diagonal complex system a feature, sampled by a zero-order hold."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double, outer, read


def s4d(
    *,
    value: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    length: int | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """``x_t = exp(dt A) x_{t-1} + A^{-1} (exp(dt A) - 1) B u_t``, ``y_t = 2 Re(C x_t)``.

    value (batch, time, features, value_dim), 1 in the model; A, B, C (features, modes) complex, Re A < 0, C not
    conjugated; dt (features) > 0; length, where given, must be the values' own.  D is not included.
    Returns (batch, time, features, value_dim) float64.
    """
    if length is not None and length != value.shape[1]:
        raise ValueError(f"length {length} but the values have {value.shape[1]} tokens")
    A, B, C = (double(x).to(torch.complex128) for x in (A, B, C))
    v = double(value)
    z = double(dt)[:, None] * A
    grown = torch.exp(z) - 1
    # near zero that cancels, and 2 exp(z/2) sinh(z/2) is the same without it
    grown = torch.where(z.abs() < 1, 2 * torch.exp(z / 2) * torch.sinh(z / 2), grown)
    held = grown / A * B
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    state = torch.zeros(v.shape[0], *A.shape, v.shape[3], dtype=torch.complex128)
    rows = []
    for t in range(v.shape[1]):
        state = keep[t] * torch.exp(z)[..., None] * state + real[t] * outer(held, v[:, t])
        rows.append(2 * read(C, state).real)
    return torch.stack(rows, dim=1)
