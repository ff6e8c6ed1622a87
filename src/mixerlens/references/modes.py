"""Layers with many inputs and outputs, run as they are defined: one dense recurrence ``x_t = A x_{t-1} + B u_t``.

S5 (Smith et al., arXiv 2208.04933), LRU (Orvieto et al., arXiv 2303.06349), LinOSS (Rusch and Rus, arXiv 2410.03943).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import boundaries, double


def system(u: Tensor, A: Tensor, B: Tensor, C: Tensor, segments: Tensor | None = None) -> Tensor:
    """``y_t = C x_t`` for u (batch, time, inputs, ...), A (state, state), B (state, inputs), C (outputs, state)."""
    keep, real = boundaries(segments, u.shape[0], u.shape[1])
    A, B, C, u = double(A), double(B), double(C), double(u)
    kind = torch.promote_types(torch.promote_types(A.dtype, B.dtype), u.dtype)
    A, B, C, u = A.to(kind), B.to(kind), C.to(kind), u.to(kind)
    x = torch.zeros(u.shape[0], A.shape[0], u.shape[3], dtype=kind)
    rows = []
    for t in range(u.shape[1]):
        x = A @ (keep[t][..., 0] * x) + real[t][..., 0] * (B @ u[:, t])
        rows.append(real[t][..., 0] * (C @ x))
    return torch.stack(rows, dim=1)


def held(A: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """The exact transition of ``x' = A x + u`` over steps dt with u held, and what a unit u adds: both diagonal here.

    expm of ``[[A dt, I dt], [0, 0]]`` holds the two in its first row.
    """
    A, dt = double(A), double(dt)
    size = A.shape[0]
    top = torch.cat([torch.diag(A * dt), torch.diag(dt).to(A.dtype)], dim=1)
    whole = torch.linalg.matrix_exp(torch.cat([top, torch.zeros_like(top)]))
    return whole[:size, :size], whole[:size, size:]


def s5(*, value: Tensor, A: Tensor, dt: Tensor, length: int | None = None, segments: Tensor | None = None) -> Tensor:
    """The states of S5 for what enters them, value = ``B u`` (batch, time, modes, value_dim) complex; A, dt (modes)."""
    _same(length, value)
    transition, entry = held(A, dt)
    return system(value, transition, entry, torch.eye(A.shape[0], dtype=torch.complex128), segments)


def lru(
    *,
    value: Tensor,
    log_decay: Tensor,
    length: int | None = None,
    gain: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """The states of the LRU: ``x_t = lambda x_{t-1} + gamma (B u)_t``; value = ``B u``, log_decay = log lambda."""
    _same(length, value)
    transition = torch.exp(double(log_decay))
    gain = torch.sqrt(1 - transition.abs() ** 2) if gain is None else double(gain)
    one = torch.eye(transition.shape[0], dtype=torch.complex128)
    return system(value, torch.diag(transition), torch.diag(gain), one, segments)


def linoss(
    *,
    value: Tensor,
    A: Tensor,
    dt: Tensor,
    length: int | None = None,
    implicit: bool = True,
    segments: Tensor | None = None,
) -> Tensor:
    """The positions of the oscillators ``x'' = -A x + v``, stepped as the scheme says; value = ``B u``, A, dt (modes).

    Implicit: both new unknowns appear on the right hand side, and the two equations are solved for x_t first.
    """
    _same(length, value)
    v, a, h = double(value), double(A)[:, None], double(dt)[:, None]
    keep, real = boundaries(segments, v.shape[0], v.shape[1])
    x, z = torch.zeros_like(v[:, 0]), torch.zeros_like(v[:, 0])
    rows = []
    for t in range(v.shape[1]):
        x, z = keep[t][..., 0] * x, keep[t][..., 0] * z
        force = real[t][..., 0] * v[:, t]
        if implicit:
            x = (x + h * (z + h * force)) / (1 + h * h * a)
            z = z + h * (force - a * x)
        else:
            z = z + h * (force - a * x)
            x = x + h * z
        rows.append(real[t][..., 0] * x)
    return torch.stack(rows, dim=1)


def _same(length: int | None, value: Tensor) -> None:
    if length is not None and length != value.shape[1]:
        raise ValueError(f"length {length} but the values have {value.shape[1]} tokens")
