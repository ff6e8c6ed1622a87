"""S4 (Gu et al., arXiv 2111.00396) by dense matrices, and DSS (Gupta et al., arXiv 2203.14343) by its kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double


def s4(
    *,
    value: Tensor,
    A: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    length: int | None = None,
    Q: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """The trapezoidal rule: ``(I - dt/2 M) x_t = (I + dt/2 M) x_{t-1} + dt B u_t``, ``y_t = Re(C x_t)``, M dense.

    ``M = diag(A) - P Q^*`` over the modes given and their conjugates, Q = P by default.  value (batch, time, features,
    value_dim), 1 in the model; A, P, B, C, Q (features, modes) complex; dt (features).  Returns float64 like value.
    """
    _same(length, value)
    Q = P if Q is None else Q
    A, P, B, C, Q = (torch.cat([double(x), double(x).conj()], dim=1) for x in (A, P, B, C, Q))
    u = double(value).to(torch.complex128)
    h = double(dt)[:, None, None]
    one = torch.eye(A.shape[1], dtype=torch.complex128)
    M = torch.diag_embed(A) - P[:, :, None] * Q.conj()[:, None, :]
    keep, real = boundaries(segments, u.shape[0], u.shape[1])
    x = torch.zeros(u.shape[0], *A.shape, u.shape[3], dtype=torch.complex128)
    rows = []
    for t in range(u.shape[1]):
        driven = (one + h / 2 * M) @ (keep[t] * x) + real[t] * (h * B[:, :, None]) * u[:, t, :, None, :]
        x = torch.linalg.solve(one - h / 2 * M, driven)
        rows.append((real[t] * (C[:, None, :] @ x)).real[:, :, 0])
    return torch.stack(rows, dim=1)


def dss(
    *,
    value: Tensor,
    A: Tensor,
    weight: Tensor,
    dt: Tensor,
    length: int | None = None,
    normalized: int | None = None,
    epsilon: float = 0.0,
    segments: Tensor | None = None,
) -> Tensor:
    """``y_t = sum_j K[t - j] u_j``, ``K = Re((weight / A) . row-softmax(P))``, ``P[n, l] = A_n dt l``, l < normalized.

    value (batch, time, features, value_dim), 1 in the model; A, weight (features, modes) complex; dt (features).
    epsilon: 1 / d is replaced by ``conj(d) / (|d|^2 + epsilon)`` for ``d = A (exp(L z) - 1)``, z = A dt or, where that
    grows, -A dt.  Returns (batch, time, features, value_dim) float64.
    """
    _same(length, value)
    A, weight, u = double(A), double(weight), double(value)
    time = u.shape[1]
    lags = torch.arange(normalized or time, dtype=torch.float64)
    P = (A * double(dt)[:, None])[..., None] * lags
    # the largest entry of a row is taken out before the exponential, as in any softmax
    peak = torch.where(A.real > 0, P[..., -1], 0)
    e = torch.exp(P - peak[..., None])
    z = torch.where(A.real > 0, -1, 1) * A * double(dt)[:, None]
    d = (A * (torch.exp(lags.numel() * z) - 1)).abs() ** 2
    scale = weight / A * (d / (d + epsilon))
    K = (scale[..., None] * e / e.sum(-1, keepdim=True)).sum(1).real  # (features, lags)
    if segments is None:
        segments = torch.zeros(1, time, dtype=torch.long)
    rows = []
    for t in range(time):
        y = torch.zeros_like(u[:, 0])
        for j in range(t + 1):
            seen = (segments[:, t] == segments[:, j]) & (segments[:, t] >= 0)
            y = y + seen[:, None, None] * K[:, t - j, None] * u[:, j]
        rows.append(y)
    return torch.stack(rows, dim=1)


def _same(length: int | None, value: Tensor) -> None:
    if length is not None and length != value.shape[1]:
        raise ValueError(f"length {length} but the values have {value.shape[1]} tokens")
