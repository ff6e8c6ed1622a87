"""Attention that is almost softmax: squashed scores, forgetting, reflections, a cut exponential, a difference."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from families.helpers import error, randn
from mixerlens import families
from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Delta, Unipotent
from mixerlens.normalizer import RowSum
from mixerlens.readout import Polynomial

BATCH, TIME, HEADS, GROUPS, DIM, WIDTH = 2, 150, 4, 2, 4, 3


def qkv(groups=HEADS):
    return randn(BATCH, TIME, HEADS, DIM), randn(BATCH, TIME, groups, DIM), randn(BATCH, TIME, groups, WIDTH)


def heads_first(*tensors):
    return [x.repeat_interleave(HEADS // x.shape[2], dim=2).transpose(1, 2) for x in tensors]


def test_sigmoid_attention_has_minus_log_length_as_bias():
    q, k, v = qkv(GROUPS)
    query, key, value = heads_first(q, k, v)
    scores = query @ key.mT / DIM**0.5
    op = families.sigmoid_attention(query=q, key=k).operator()
    assert error(op @ v, (torch.sigmoid(scores - math.log(TIME)).tril() @ value).transpose(1, 2)) <= 1e-13
    both = families.sigmoid_attention(query=q, key=k, causal=False, bias=0.5, scale=1.0).operator()
    assert error(both.to_dense(), torch.sigmoid(scores * DIM**0.5 + 0.5)) <= 1e-13


def test_the_forgetting_transformer_is_torchs_attention_with_a_bias():
    q, k, v = qkv(GROUPS)
    log_forget = F.logsigmoid(3 + randn(BATCH, TIME, HEADS))
    total = log_forget.cumsum(1).transpose(1, 2)
    bias = (total[..., :, None] - total[..., None, :]).masked_fill(~torch.ones(TIME, TIME).bool().tril(), -torch.inf)
    want = F.scaled_dot_product_attention(*heads_first(q, k, v), attn_mask=bias).transpose(1, 2)
    dynamics = families.forgetting_attention(query=q, key=k, log_forget=log_forget)
    assert isinstance(dynamics.evolution, Unipotent)
    assert error(dynamics.operator() @ v, want) <= 1e-12
    slopes = torch.rand(HEADS).double()
    constant = families.forgetting_attention(query=q, key=k, log_forget=(-slopes).expand(BATCH, TIME, HEADS))
    alibi = families.softmax_attention(query=q, key=k, alibi=slopes)
    assert error(constant.operator().to_dense(), alibi.operator().to_dense()) <= 1e-13
    with pytest.raises(InputError, match="log_forget"):
        families.forgetting_attention(query=q, key=k, log_forget=-log_forget)
    with pytest.raises(InputError, match="finite"):
        families.forgetting_attention(query=q, key=k, log_forget=torch.full((BATCH, TIME, HEADS), -torch.inf))


def test_path_without_reflections_is_torchs_attention():
    q, k, v = qkv(GROUPS)
    want = F.scaled_dot_product_attention(*heads_first(q, k, v), is_causal=True).transpose(1, 2)
    w = F.normalize(randn(BATCH, TIME, HEADS, DIM), dim=-1)
    still = families.path_attention(query=q, key=k, direction=w, beta=torch.zeros(BATCH, TIME, HEADS).double())
    assert error(still.operator() @ v, want) <= 1e-13
    turned = families.path_attention(query=q, key=k, direction=w, beta=torch.full((BATCH, TIME, HEADS), 2.0).double())
    assert error(turned.operator() @ v, want) > 0.1


def test_path_turns_no_key_longer():
    """For unit directions and beta in [0, 2] every H_t is a contraction: |q^T H ... H k| <= |q| |k|."""
    q, k, _ = qkv()
    w, beta = F.normalize(randn(BATCH, TIME, HEADS, DIM), dim=-1), 2 * torch.rand(BATCH, TIME, HEADS).double()
    dynamics = families.path_attention(query=q, key=k, direction=w, beta=beta)
    impulse = dynamics.impulse(20)
    assert (impulse[:, 20:].norm(dim=-1) <= impulse[:, 20:21].norm(dim=-1) * (1 + 1e-12)).all()
    assert impulse[:, 20:].norm(dim=-1).min() < 0.5 * impulse[:, 20].norm(dim=-1).max()


def test_based_is_the_second_order_of_exp():
    q, k, v = qkv(GROUPS)
    query, key, value = heads_first(q, k, v)
    z = query @ key.mT / DIM**0.5
    weight = (1 + z + z**2 / 2).tril()
    want = (weight / weight.sum(-1, keepdim=True)) @ value
    op = families.based(query=q, key=k).operator()
    assert error(op @ v, want.transpose(1, 2)) <= 1e-13
    assert int(op.state_rank(tol=1e-10, cuts=[TIME // 2]).max()) == (DIM + 1) * (DIM + 2) // 2


def test_a_polynomial_readout_is_a_finite_recurrence_after_lifting():
    """1 + z + z^2/2 over Householder maps: A_t moves (1, u, u (x) u) linearly, (n + 1)(n + 2) / 2 numbers.

    Written out with plain loops: S_0 = sum v^T, S_1 = sum u v^T, S_2 = sum u_a u_b v^T for a <= b.
    """
    n, length = 3, 60
    q, k, v = randn(1, length, 1, n), randn(1, length, 1, n) / n**0.5, randn(1, length, 1, WIDTH)
    w, beta = F.normalize(randn(1, length, 1, n), dim=-1), torch.full((1, length, 1), 2.0).double()
    first, second = torch.triu_indices(n, n)
    numbers = 1 + n + len(first)
    assert numbers == (n + 1) * (n + 2) // 2

    def lifted(x):
        return torch.cat([torch.ones(1).double(), x, x[first] * x[second]])

    def moved(A):
        """The matrix that takes lifted(u) to lifted(A u)."""
        twice = A[first][:, first] * A[second][:, second]
        swapped = A[first][:, second] * A[second][:, first]
        square = torch.where(first == second, twice, twice + swapped)
        return torch.block_diag(torch.ones(1, 1).double(), A, square)

    weight = torch.cat([torch.ones(1), torch.ones(n), torch.where(first == second, 0.5, 1.0)]).double()
    state, rows, plain = torch.zeros(numbers, WIDTH).double(), [], []
    for t in range(length):
        A = torch.eye(n).double() - beta[0, t, 0] * torch.outer(w[0, t, 0], w[0, t, 0])
        state = moved(A) @ state + torch.outer(lifted(k[0, t, 0]), v[0, t, 0])
        rows.append((weight * lifted(q[0, t, 0])) @ state)
        plain.append(A)
    dynamics = CoefficientDynamics(q, k, Delta(w, beta), readout=Polynomial((1.0, 1.0, 0.5)))
    assert error((dynamics.operator() @ v)[0, :, 0], torch.stack(rows)) <= 2e-14
    assert int(dynamics.operator().state_rank(tol=1e-10, cuts=[length // 2]).max()) == numbers
    divided = CoefficientDynamics(q, k, Delta(w, beta), readout=Polynomial((1.0, 1.0, 0.5)), normalizer=RowSum())
    ones = torch.ones(1, length, 1, 1).double()
    mass = (dynamics.operator() @ ones)[0, :, 0]
    assert error((divided.operator() @ v)[0, :, 0], torch.stack(rows) / mass) <= 2e-14


@torch.no_grad()
def test_differential_attention_is_diffllamas():
    """transformers' layer in float64, with its norm and output projection taken out."""
    from transformers import DiffLlamaConfig
    from transformers.models.diffllama import modeling_diffllama as m

    heads, groups, dim, layer, time = 4, 2, 8, 2, 40
    config = DiffLlamaConfig(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=dim,
        num_hidden_layers=4,
    )
    config._attn_implementation = "sdpa"
    attention = m.DiffLlamaAttention(config, layer).double().eval()
    attention.groupnorm = attention.o_proj = torch.nn.Identity()
    x = randn(BATCH, time, heads * dim)
    cos, sin = m.DiffLlamaRotaryEmbedding(config).double()(x, torch.arange(time)[None])
    want = attention(x, (cos, sin))[0].detach().unflatten(-1, (heads // 2, 2 * dim)) / (1 - attention.lambda_init)
    q, k, v = (p(x).unflatten(-1, (-1, dim)) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    q, k = m.apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=2)
    (q1, q2), (k1, k2) = q.chunk(2, 2), k.chunk(2, 2)
    inner = [(a * b).sum(dtype=torch.float32).exp() for a, b in (
        (attention.lambda_q1, attention.lambda_k1), (attention.lambda_q2, attention.lambda_k2)
    )]  # fmt: skip
    weight = (inner[0].double() - inner[1].double() + attention.lambda_init).detach()
    dynamics = families.differential_attention(query=q1, key=k1, second_query=q2, second_key=k2, weight=weight)
    assert isinstance(dynamics, CoefficientSum)
    assert error(dynamics.operator() @ torch.cat(v.chunk(2, 2), -1), want) <= 1e-12
    frequencies = m.DiffLlamaRotaryEmbedding(config).inv_freq
    plain_q, plain_k = (p(x).unflatten(-1, (-1, dim)).chunk(2, 2) for p in (attention.q_proj, attention.k_proj))
    turned = families.differential_attention(
        query=plain_q[0],
        key=plain_k[0],
        second_query=plain_q[1],
        second_key=plain_k[1],
        weight=weight,
        rope=frequencies,
    )
    assert error(turned.operator() @ torch.cat(v.chunk(2, 2), -1), want) <= 1e-5  # theirs turns by float32 angles


def test_differential_attention_sums_to_one_minus_lambda():
    (q1, k1, _), (q2, k2, _), weight = qkv(), qkv(), torch.rand(HEADS).double()
    op = families.differential_attention(query=q1, key=k1, second_query=q2, second_key=k2, weight=weight).operator()
    ones = torch.ones(BATCH, TIME, HEADS, 1).double()
    assert error((op @ ones)[..., 0], (1 - weight).expand(BATCH, TIME, HEADS)) <= 1e-13
    assert (op.row_mass() > (1 - weight) + 0.05).any()  # alpha has both signs
    assert (op.row_mass() <= 1 + weight + 1e-12).all()
