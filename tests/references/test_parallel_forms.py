"""The references of gated, squashed and normalised mixers against closed forms: whole matrices, no loop over time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mixerlens import references

BATCH, TIME, HEADS, DIM, WIDTH = 2, 21, 3, 5, 4
LAG = torch.arange(TIME)[:, None] - torch.arange(TIME)
CAUSAL = LAG >= 0


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def drawn():
    return randn(BATCH, TIME, HEADS, DIM), randn(BATCH, TIME, HEADS, DIM), randn(BATCH, TIME, HEADS, WIDTH)


def gates(*trailing):
    return -0.5 * torch.rand(BATCH, TIME, HEADS, *trailing, dtype=torch.float64)


def close(got, alpha, v, bar=1e-12):
    """y against alpha (batch, heads, time, time) acting on v."""
    want = torch.einsum("bhij,bjhe->bihe", alpha, v)
    assert got.shape == want.shape
    assert (got - want).abs().max() <= bar * want.abs().max()


def between(log):
    """sum of log over j < l <= i: (batch, time, heads) -> (batch, heads, time, time)."""
    total = log.cumsum(1).transpose(1, 2)
    return total[..., :, None] - total[..., None, :]


def dots(q, k):
    return torch.einsum("bihd,bjhd->bhij", q, k)


def test_rwkv4_is_its_sum_of_exponentials():
    k, w, u, v = gates() * 4, -torch.rand(HEADS).double(), randn(HEADS), randn(BATCH, TIME, HEADS, 1)
    score = (LAG - 1) * w[:, None, None] + k.transpose(1, 2)[:, :, None]
    score = torch.where(LAG == 0, u[:, None, None] + k.transpose(1, 2)[:, :, None], score)
    weight = torch.where(CAUSAL, score.exp(), 0)
    got = references.rwkv4(value=v, log_key=k, log_decay=w, bonus=u)
    close(got, weight / weight.sum(-1, keepdim=True), v)


def test_rwkv6_is_its_parallel_form():
    """r_i (w_{i-1} ... w_{j+1} k_j) below the diagonal, r_i (u k_i) on it; RWKV-5 with one decay for all tokens."""
    (r, k, v), u = drawn(), randn(HEADS, DIM)
    moving, fixed = gates(DIM), -0.5 * torch.rand(HEADS, DIM).double()
    for log, run, given in (
        (moving, references.rwkv6, moving),
        (fixed.expand(BATCH, TIME, HEADS, DIM), references.rwkv5, fixed),
    ):
        total = log.cumsum(1)
        earlier = torch.einsum("bihd,bjhd->bhij", r * (total - log).exp(), k * (-total).exp()).tril(-1)
        own = torch.diag_embed((r * u * k).sum(-1).transpose(1, 2))
        close(run(value=v, query=r, key=k, log_decay=given, bonus=u), earlier + own, v)


def test_rwkv7_is_a_product_of_transitions_on_columns():
    """alpha_ij = r_i^T A_i ... A_{j+1} k_j with A = diag(w) - (a d) d^T, as dense matrices."""
    (r, k, v), log, a = drawn(), gates(DIM), torch.rand(BATCH, TIME, HEADS, DIM).double()
    d = F.normalize(randn(BATCH, TIME, HEADS, DIM), dim=-1)
    A = torch.diag_embed(log.exp()) - (a * d)[..., :, None] * d[..., None, :]
    alpha = torch.zeros(BATCH, HEADS, TIME, TIME, dtype=torch.float64)
    for j in range(TIME):
        u = k[:, j]
        for i in range(j, TIME):
            u = u if i == j else (A[:, i] @ u[..., None])[..., 0]
            alpha[:, :, i, j] = (r[:, i] * u).sum(-1)
    close(references.rwkv7(value=v, query=r, key=k, log_decay=log, direction=d, rate=a), alpha, v)


@pytest.mark.parametrize("floor", [1.0, None])
def test_mlstm_is_its_parallel_form(floor):
    """(Q K^T . D) over max(|row sum|, 1), D_ij = exp(sum of log f between + i_j): the paper's parallel form."""
    (q, k, v), i, f = drawn(), randn(BATCH, TIME, HEADS), gates()
    weight = torch.where(CAUSAL, dots(q, k) * (between(f) + i.transpose(1, 2)[:, :, None]).exp(), 0)
    eta = 1 if floor is None else weight.sum(-1, keepdim=True).abs().clamp(min=floor)
    close(references.mlstm(value=v, query=q, key=k, log_input=i, log_forget=f, floor=floor), weight / eta, v)


@pytest.mark.parametrize("causal", [True, False])
def test_sigmoid_attention_is_sigmoid_of_the_scores(causal):
    q, k, v = drawn()
    alpha = torch.sigmoid(dots(q, k) / DIM**0.5 - math.log(TIME))
    alpha = alpha.tril() if causal else alpha
    close(references.sigmoid_attention(value=v, query=q, key=k, causal=causal), alpha, v)
    close(
        references.sigmoid_attention(value=v, query=q, key=k, scale=2.0, bias=0.3),
        torch.sigmoid(2 * dots(q, k) + 0.3).tril(),
        v,
    )


def test_the_forgetting_transformer_is_torchs_attention_with_a_bias():
    (q, k, v), f = drawn(), gates()
    bias = between(f).masked_fill(~CAUSAL, -torch.inf)
    want = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=bias).transpose(1, 2)
    got = references.forgetting_attention(value=v, query=q, key=k, log_forget=f)
    assert (got - want).abs().max() <= 1e-12 * want.abs().max()


def test_path_is_softmax_over_products_of_reflections():
    (q, k, v), beta = drawn(), 1.9 * torch.rand(BATCH, TIME, HEADS).double()
    w = F.normalize(randn(BATCH, TIME, HEADS, DIM), dim=-1)
    H = torch.eye(DIM).double() - beta[..., None, None] * w[..., :, None] * w[..., None, :]
    score = torch.full((BATCH, HEADS, TIME, TIME), -torch.inf, dtype=torch.float64)
    for j in range(TIME):
        product = torch.eye(DIM, dtype=torch.float64).expand(BATCH, HEADS, DIM, DIM)
        for i in range(j, TIME):
            product = product if i == j else H[:, i] @ product
            score[:, :, i, j] = torch.einsum("bhd,bhde,bhe->bh", q[:, i], product, k[:, j]) / DIM**0.5
    close(references.path_attention(value=v, query=q, key=k, direction=w, beta=beta), score.softmax(-1), v)


def test_based_is_the_second_order_of_exp():
    q, k, v = drawn()
    z = dots(q, k) / DIM**0.5
    weight = (1 + z + z**2 / 2).tril()
    close(references.based(value=v, query=q, key=k), weight / weight.sum(-1, keepdim=True), v)


@pytest.mark.parametrize(
    ("activation", "plain"),
    [
        ("exp", torch.exp),
        ("softplus", lambda x: torch.log(1 + torch.exp(x))),
        ("elu", lambda x: torch.where(x > 0, 1 + x, torch.exp(x))),
        ("sigmoid", lambda x: torch.exp(x) / (1 + torch.exp(x))),
        ("given", lambda x: x),
    ],
)
def test_norm_attention_divides_rows(activation, plain):
    (q, k, v), score = drawn(), randn(BATCH, TIME, HEADS)
    alpha = dots(q, k).tril() / plain(score).transpose(1, 2)[..., None]
    close(references.norm_attention(value=v, query=q, key=k, score=score, activation=activation), alpha, v)


def test_hgrn2_writes_what_it_forgets():
    (q, _, v), f = drawn(), gates(DIM)
    total = f.cumsum(1)
    alpha = dots(q * total.exp(), (1 - f.exp()) * (-total).exp()).tril()
    close(references.hgrn2(value=v, query=q, log_forget=f), alpha, v)


def test_gated_slot_attention_in_two_passes():
    """The first pass gives a score a slot, sum_j q_i.k_j decay (1 - f_j); the second reads with their softmax."""
    (q, k, v), f = drawn(), gates(6)
    total, written = f.cumsum(1), 1 - f.exp()
    kept = (total[:, :, None] - total[:, None]).exp() * written[:, None]  # (batch, i, j, heads, slots)
    kept = torch.where(CAUSAL[None, :, :, None, None], kept, 0)
    read = torch.einsum("bhij,bijhm->bihm", dots(q, k), kept).softmax(-1)
    close(
        references.gated_slot_attention(value=v, query=q, key=k, log_forget=f),
        torch.einsum("bihm,bijhm->bhij", read, kept),
        v,
    )


def test_differential_attention_is_two_of_torchs():
    (q, k, v), (q2, k2, _), weight = drawn(), drawn(), randn(HEADS)
    first, second = (
        F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (a, b, v)), is_causal=True).transpose(1, 2)
        for a, b in ((q, k), (q2, k2))
    )
    want = first - weight[:, None] * second
    got = references.differential_attention(value=v, query=q, key=k, second_query=q2, second_key=k2, weight=weight)
    assert (got - want).abs().max() <= 1e-12 * want.abs().max()
