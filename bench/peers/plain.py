"""What one writes down from the equations in plain torch: dense forms, solves over the whole sequence, loops."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.case import Inputs


def delta_solve(given: Inputs) -> Tensor:
    """alpha = tril(Q K^T) (I + tril(diag(beta) K K^T, -1))^-1 diag(beta), one triangular solve of size L a head."""
    query, key = (given[name].transpose(1, 2) for name in ("query", "key"))
    beta = given["beta"].transpose(1, 2)
    scores = torch.tril(query @ key.mT)
    system = torch.tril(beta[..., None] * (key @ key.mT), -1)
    solved = torch.linalg.solve_triangular(system, scores, upper=False, left=False, unitriangular=True)
    return solved * beta[..., None, :]


def delta_recurrence(given: Inputs) -> Tensor:
    """S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T, y_t = S_t^T q_t, one token after the other."""
    query, key, value, decay, beta = (given[n].unbind(1) for n in ("query", "key", "value", "log_decay", "beta"))
    state = torch.zeros(*query[0].shape, value[0].shape[-1])
    rows = []
    for q, k, v, g, b in zip(query, key, value, decay, beta, strict=True):
        state = state * g.exp()[..., None, None]
        held = (k[..., None] * state).sum(-2)
        state = state + k[..., None] * (b[..., None] * (v - held))[..., None, :]
        rows.append((q[..., None] * state).sum(-2))
    return torch.stack(rows, 1)


def s4d_kernel(given: Inputs) -> Tensor:
    """k_l = 2 Re sum_n C_n B_n (exp(dt A_n) - 1) / A_n exp(dt A_n l), by one complex exponential an entry."""
    exponent = given["A"] * given["dt"][:, None]
    weight = given["C"] * given["B"] * torch.expm1(exponent) / given["A"]
    powers = torch.exp(exponent[:, :, None] * torch.arange(given["u"].shape[1]))
    return 2 * torch.einsum("hn,hnl->hl", weight, powers).real


def s4d(given: Inputs) -> Tensor:
    """The kernel above and one padded FFT convolution: u (batch, time, features)."""
    kernel, u = s4d_kernel(given), given["u"].transpose(1, 2)
    time = u.shape[-1]
    spectrum = torch.fft.rfft(u, 2 * time) * torch.fft.rfft(kernel, 2 * time)
    return torch.fft.irfft(spectrum, 2 * time)[..., :time].transpose(1, 2)
