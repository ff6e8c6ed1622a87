"""The references of delta rules and memories against transformers' scans and the papers' matrix forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixerlens import references

BATCH, TIME, HEADS, GROUPS, DIM, WIDTH = 2, 37, 4, 2, 5, 3


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def close(got: Tensor, want: Tensor, bar: float) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= bar * want.abs().max()


@pytest.fixture
def one() -> dict[str, Tensor]:
    """One head of one sequence."""
    torch.manual_seed(1)
    unit = lambda: F.normalize(randn(1, TIME, 1, DIM), dim=-1)
    gate = lambda: -rand(1, TIME, 1)
    return {"q": randn(1, TIME, 1, DIM), "k": unit(), "p": unit(), "v": randn(1, TIME, 1, WIDTH), "g": gate()}


@pytest.mark.parametrize("scan", ["chunk_kimi_delta_attention", "recurrent_kimi_delta_attention"])
def test_kimi_delta_attention_is_transformers(scan):
    from transformers.models.kimi_linear import modeling_kimi_linear

    torch.manual_seed(2)
    q, k = randn(BATCH, TIME, HEADS, DIM), F.normalize(randn(BATCH, TIME, GROUPS, DIM), dim=-1)
    v, g, beta = randn(BATCH, TIME, HEADS, WIDTH), -rand(BATCH, TIME, HEADS, DIM), 1.9 * rand(BATCH, TIME, HEADS)
    full = k.repeat_interleave(HEADS // GROUPS, 2)
    run = getattr(modeling_kimi_linear, scan)
    want, _ = run(q, full, v, g=g, beta=beta, initial_state=None, output_final_state=False)
    got = references.kimi_delta_attention(value=v, query=q * DIM**-0.5, key=k, log_decay=g, beta=beta)
    close(got, want, 2e-6)  # that scan is float32


def matrices(one: dict[str, Tensor], forget, write) -> Tensor:
    """S_t = A_t S_{t-1} + w_t v_t^T with A_t and w_t written out as matrices."""
    state, rows = torch.zeros(DIM, WIDTH, dtype=torch.float64), []
    for t in range(TIME):
        state = forget(t) @ state + torch.outer(write(t), one["v"][0, t, 0])
        rows.append(one["q"][0, t, 0] @ state)
    return torch.stack(rows)[None, :, None]


def test_oblique_rules_are_their_matrix_forms(one):
    eye, k, p, a = torch.eye(DIM, dtype=torch.float64), one["k"][0, :, 0], one["p"][0, :, 0], one["g"].exp()[0, :, 0]
    beta, erase, gates = rand(1, TIME, 1), rand(1, TIME, 1, DIM), -rand(1, TIME, 1, DIM)
    b, e, D = beta[0, :, 0], erase[0, :, 0], torch.diag_embed(gates[0, :, 0].exp())
    want = matrices(one, lambda t: (eye - torch.outer(k[t], e[t] * k[t])) @ D[t], lambda t: k[t])
    got = references.gated_delta_net_2(value=one["v"], query=one["q"], key=one["k"], log_decay=gates, erase=erase)
    close(got, want, 1e-13)
    want = matrices(one, lambda t: a[t] * eye - b[t] * torch.outer(k[t], p[t]), lambda t: b[t] * k[t])
    got = references.comba(
        value=one["v"], query=one["q"], key=one["k"], feedback=one["p"], log_decay=one["g"], beta=beta
    )
    close(got, want, 1e-13)


def test_log_linear_attention_is_the_recurrence_over_levels(one):
    """A token enters at level 0; at token t, with z the trailing zeros of t, levels 0 .. z merge into level z + 1."""
    levels = 7
    weights, g = rand(1, TIME, 1, levels), one["g"]
    state, rows = torch.zeros(levels, DIM, WIDTH, dtype=torch.float64), []
    for t in range(TIME):
        state = g[0, t, 0].exp() * state
        if t > 0:
            into = (t & -t).bit_length()
            state = torch.cat([torch.zeros_like(state[:into]), state[: into + 1].sum(0)[None], state[into + 1 :]])
        state[0] = torch.outer(one["k"][0, t, 0], one["v"][0, t, 0])
        rows.append(torch.einsum("l,d,ldw->w", weights[0, t, 0], one["q"][0, t, 0], state))
    got = references.log_linear_attention(
        value=one["v"], query=one["q"], key=one["k"], log_decay=g, level_weights=weights
    )
    close(got, torch.stack(rows)[None, :, None], 1e-13)


def test_titans_momentum_is_a_sum_over_earlier_surprises(one):
    """Unrolled: M_t = sum_s a^(t-s) S_s and S_s = sum_r m^(s-r) theta k_r (v_r - M_{r-1}^T k_r)^T, constant a, m."""
    a, m, theta = 0.9, 0.7, 0.3
    number = lambda x: torch.full((1, TIME, 1), x, dtype=torch.float64)
    memories: list[Tensor] = [torch.zeros(DIM, WIDTH, dtype=torch.float64)]
    steps, rows = [], []
    for t in range(TIME):
        k, v = one["k"][0, t, 0], one["v"][0, t, 0]
        steps.append(theta * torch.outer(k, v - memories[-1].T @ k))
        memory = torch.zeros(DIM, WIDTH, dtype=torch.float64)
        for s in range(t + 1):
            for r in range(s + 1):
                memory = memory + a ** (t - s) * m ** (s - r) * steps[r]
        memories.append(memory)
        rows.append(one["q"][0, t, 0] @ memory)
    got = references.titans_linear(
        value=one["v"],
        query=one["q"],
        key=one["k"],
        rate=number(theta),
        log_decay=number(a).log(),
        momentum=number(m),
    )
    close(got, torch.stack(rows)[None, :, None], 1e-12)


def test_mesa_net_without_decay_is_one_ridge_regression(one):
    """The last row from all keys and values at once, by the normal equations' dual form K^T (K K^T + r I)^{-1} V."""
    q, k, v, r = one["q"][0, -1, 0], one["k"][0, :, 0], one["v"][0, :, 0], 0.4
    fit = k.T @ torch.linalg.solve(k @ k.T + r * torch.eye(TIME, dtype=torch.float64), v)
    ones = torch.ones(1, TIME, 1, dtype=torch.float64)
    got = references.mesa_net(
        value=one["v"],
        query=one["q"],
        key=one["k"],
        log_decay=0 * ones,
        beta=ones,
        ridge=torch.full((1, DIM), r, dtype=torch.float64),
    )
    close(got[0, -1, 0], q @ fit, 1e-12)
