"""The oracle: the equation itself in float64, one token after the other. Slow, quadratic memory, never clever."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.shapes import at, spread


def oracle_scores(dynamics: CoefficientDynamics) -> Tensor:
    """q_i^T u_{i,j} for j <= i (every j for bidirectional supports): (batch, heads, time, time)."""
    d = dynamics
    state = torch.zeros(d.batch, d.heads, d.dim, d.time, dtype=d.dtype, device=d.device)
    rows = []
    for i in range(d.time):
        key = spread(at(d.key, i), d.heads).to(d.dtype)
        if d.scaling is not None:
            key = at(d.scaling, i).to(d.dtype)[..., None] * key
        state = d.evolution.step(state, i) if i else state
        state = torch.cat([state[..., :i], key[..., None].expand(*state.shape[:-1], 1), state[..., i + 1 :]], -1)
        rows.append(spread(at(d.query, i), d.heads).to(d.dtype)[..., None, :] @ state)
    if d.support.causal:
        return torch.cat(rows, -2)
    # no evolution: every query reads the finished set of keys
    query = torch.stack([spread(at(d.query, i), d.heads).to(d.dtype) for i in range(d.time)], -2)
    return query @ state


def oracle_coefficients(mixer: Mixer) -> Tensor:
    """alpha, dense, in float64 (complex128): (batch, heads, time, time)."""
    total = None
    for d, weight in mixer.to(torch.float64).terms:
        whole = (0, d.time)
        mask = d.support.mask(whole, whole, d.device)
        scores = oracle_scores(d)
        alpha = weigh(d.normalizer.coefficients(d.readout, scores, mask.expand(scores.shape), whole), weight)
        total = alpha if total is None else total + alpha
    assert total is not None
    return total


def oracle(dynamics: Mixer, values: Tensor) -> Tensor:
    """y_i = sum_j alpha_ij v_j in float64: values (batch, time, heads | kv_heads, m) -> (batch, time, heads, m)."""
    alpha = oracle_coefficients(dynamics)
    v = spread(values.transpose(1, 2), dynamics.heads)
    dtype = torch.promote_types(alpha.dtype, v.dtype)
    return (alpha.to(dtype) @ v.to(dtype)).transpose(1, 2)
