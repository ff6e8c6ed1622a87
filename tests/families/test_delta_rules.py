"""Delta rules: the coefficients by the triangular formula reproduce the mixer, also on correlated keys."""

from __future__ import annotations

import pytest
import torch

from families.helpers import randn
from mixerlens import families, references

BATCH, TIME, HEADS, DIM, WIDTH = 1, 300, 2, 8, 3


def keys(kind):
    k = randn(BATCH, TIME, HEADS, DIM)
    if kind == "correlated":  # all within a few degrees of one direction
        k = 0.1 * k + randn(1, 1, HEADS, DIM)
    return k / k.norm(dim=-1, keepdim=True)


def triangular(q, k, beta, g=None, inverse=True):
    """alpha = ((Q K^T) . D) (I + tril(diag(beta) (K K^T . D), -1))^{-1} diag(beta)"""
    q, k, beta = q.transpose(1, 2), k.transpose(1, 2), beta.transpose(1, 2)
    D = torch.ones(TIME, TIME, dtype=torch.float64).tril()
    if g is not None:
        total = g.transpose(1, 2).cumsum(-1)
        D = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
    reads = (q @ k.mT) * D
    if inverse:
        system = torch.eye(TIME, dtype=torch.float64) + (beta[..., None] * (k @ k.mT) * D).tril(-1)
        reads = torch.linalg.solve_triangular(system, reads, upper=False, left=False)
    return reads * beta[..., None, :]


@pytest.mark.parametrize("kind", ["random", "correlated"])
@pytest.mark.parametrize("gated", [False, True])
def test_the_coefficients_reproduce_the_mixer(kind, gated):
    q, k, v = randn(BATCH, TIME, HEADS, DIM), keys(kind), randn(BATCH, TIME, HEADS, WIDTH)
    beta = 1.99 * torch.rand(BATCH, TIME, HEADS, dtype=torch.float64)
    g = -0.1 * torch.rand(BATCH, TIME, HEADS, dtype=torch.float64)
    if gated:
        dynamics = families.gated_delta_net(query=q, key=k, log_decay=g, beta=beta)
        y = references.gated_delta_net(value=v, query=q, key=k, log_decay=g, beta=beta)
    else:
        dynamics = families.delta_net(query=q, key=k, beta=beta)
        y = references.delta_net(value=v, query=q, key=k, beta=beta)
    alpha = dynamics.operator().to_dense()
    rebuilt = (alpha @ v.transpose(1, 2)).transpose(1, 2)
    assert (rebuilt - y).abs().max() <= 1e-12 * y.abs().max()
    want = triangular(q, k, beta, g if gated else None)
    assert (alpha - want).abs().max() <= 1e-12 * want.abs().max()
    short = triangular(q, k, beta, g if gated else None, inverse=False)
    off = (short - want).abs().max() / want.abs().max()
    assert off > (0.1 if kind == "random" else 0.3)  # the inverse is no detail


def test_two_thousand_tokens():
    q, k = randn(1, 2048, 1, DIM), randn(1, 2048, 1, DIM)
    k, v = k / k.norm(dim=-1, keepdim=True), randn(1, 2048, 1, WIDTH)
    beta = torch.full((1, 2048, 1), 1.99, dtype=torch.float64)
    y = references.delta_net(value=v, query=q, key=k, beta=beta)
    got = families.delta_net(query=q, key=k, beta=beta).operator() @ v
    assert (got - y).abs().max() <= 1e-12 * y.abs().max()
    low = {"query": q.float(), "key": k.float(), "beta": beta.float()}
    y = references.delta_net(value=v.float(), **low)
    got = families.delta_net(**low).operator() @ v.float()
    assert (got - y).abs().max() <= 1e-6 * y.abs().max()
