"""What the tests of the scans compare with: the recurrences, one token after the other, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def selective(x, dt, A, B, C, h):
    """h_t = exp(dt A) h + dt B x, y = C h."""
    rows = []
    for x_t, step, b, c in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        h = torch.exp(step[..., None] * A) * h + (step * x_t)[..., None] * b[:, None]
        rows.append((h * c[:, None]).sum(-1))
    return torch.stack(rows, 1), h


def ssd(x, dt, A, B, C, S):
    """S_t = exp(dt A) S + dt B x^T, y = S^T C; head h uses group h // (heads / groups)."""
    rows, per_group = [], x.shape[2] // B.shape[2]
    for x_t, step, b, c in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        b, c = (tensor.repeat_interleave(per_group, 1) for tensor in (b, c))
        S = torch.exp(step * A)[..., None, None] * S + (step[..., None] * b)[..., None] * x_t[..., None, :]
        rows.append((S * c[..., None]).sum(-2))
    return torch.stack(rows, 1), S


def gated_delta(query, key, value, log_decay, beta, S):
    """S <- exp(g) S, S <- S + beta k (v - S^T k)^T, y = S^T q."""
    rows, per_group = [], value.shape[2] // key.shape[2]
    decay = torch.ones_like(beta) if log_decay is None else log_decay.exp()
    arguments = (tensor.unbind(1) for tensor in (query, key, value, decay, beta))
    for q, k, v, a, b in zip(*arguments, strict=True):
        q, k = (tensor.repeat_interleave(per_group, 1) for tensor in (q, k))
        S = S * a[..., None, None]
        S = S + (b[..., None] * k)[..., None] * (v - (S * k[..., None]).sum(-2))[..., None, :]
        rows.append((S * q[..., None]).sum(-2))
    return torch.stack(rows, 1), S


def ssd_arguments(batch, time, heads, dim, groups, state, dtype=torch.float64, rate=2.0) -> list[Tensor]:
    """x, dt, A, B, C, initial_state."""
    x = torch.randn(batch, time, heads, dim, dtype=dtype)
    B, C = (torch.randn(batch, time, groups, state, dtype=dtype) / state**0.5 for _ in range(2))
    dt, A = F.softplus(torch.randn(batch, time, heads, dtype=dtype)), -rate * torch.rand(heads, dtype=dtype)
    return [x, dt, A, B, C, torch.randn(batch, heads, state, dim, dtype=dtype)]


def delta_arguments(batch, time, heads, dim, groups, state, dtype=torch.float64, gated=True) -> list[Tensor | None]:
    """query, key, value, log_decay, beta, initial_state: unit keys, beta in [0, 2]."""
    query, key = (F.normalize(torch.randn(batch, time, groups, state, dtype=dtype), dim=-1) for _ in range(2))
    value, beta = torch.randn(batch, time, heads, dim, dtype=dtype), 2 * torch.rand(batch, time, heads, dtype=dtype)
    log_decay = -torch.rand(batch, time, heads, dtype=dtype) if gated else None
    return [query, key, value, log_decay, beta, torch.randn(batch, heads, state, dim, dtype=dtype)]


def relative(got: Tensor, want: Tensor) -> float:
    """Largest |got - want| relative to the largest |want|, or to 1e-290: what is below the normal numbers is 0."""
    assert got.shape == want.shape
    assert torch.isfinite(got).all()
    return float((got - want).detach().abs().max() / want.detach().abs().max().clamp_min(1e-290))


def errors(scan: Callable, plain: Callable, arguments: Sequence[Tensor | None]) -> list[float]:
    """Of the output, the last state and every gradient, both outputs weighted at random."""
    leaves = [tensor.requires_grad_() for tensor in arguments if tensor is not None]
    results = [scan(*arguments), plain(*arguments)]
    weights = [torch.randn_like(tensor) for tensor in results[1]]
    for index, outputs in enumerate(results):
        total = sum((weight * output).sum() for weight, output in zip(weights, outputs, strict=True))
        results[index] = (*outputs, *torch.autograd.grad(total, leaves))
    return [relative(got, want) for got, want in zip(*results, strict=True)]
