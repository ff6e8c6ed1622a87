"""RWKV: transformers' kernel, exponentials that overflow, what reads when, and a transition longer than one."""

from __future__ import annotations

import pytest
import torch

from families.helpers import error, randn
from mixerlens import families, references
from mixerlens.errors import InputError

BATCH, TIME, CHANNELS = 2, 90, 5


@pytest.mark.parametrize("size", [1.0, 15.0])
def test_rwkv4_is_transformers(size):
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

    key, value = size * randn(BATCH, TIME, CHANNELS).float(), randn(BATCH, TIME, CHANNELS)
    decay, first = randn(CHANNELS), randn(CHANNELS)
    want, state = rwkv_linear_attention_cpu(decay, first, key, value, return_state=True)
    dynamics = families.rwkv4(log_key=key.double(), log_decay=-decay.exp(), bonus=first)
    got, last = dynamics.operator().apply(value[..., None], return_state=True)
    assert error(got[..., 0], want) <= 1e-6  # the kernel keeps its keys in float32
    merged = torch.exp(-decay.exp())[:, None] * last[:, :, 0] + last[:, :, 1]  # ours holds the last token back
    peak = key.amax(1).double()
    num, den, unit = state
    bar = 1e-6 * size  # e^k of a float32 k
    assert error(merged[..., 0], num * (unit - peak).exp()) <= bar
    assert error(merged[..., 1], den * (unit - peak).exp()) <= bar


def test_rwkv4_has_no_overflow():
    """A constant added to a channel's log keys changes nothing, however large; e^1000 is beyond float64."""
    log_key, log_decay, bonus, v = (
        randn(BATCH, TIME, CHANNELS),
        -torch.rand(CHANNELS),
        randn(CHANNELS),
        randn(2, 90, 5, 1),
    )
    plain = families.rwkv4(log_key=log_key, log_decay=log_decay, bonus=bonus).operator().to_dense()
    shift = torch.tensor([1000.0, -1000.0, 0.0, 300.0, 80.0])
    moved = families.rwkv4(log_key=log_key + shift, log_decay=log_decay, bonus=bonus).operator()
    assert error(moved.to_dense(), plain) <= 1e-12
    want = references.rwkv4(value=v, log_key=log_key + shift, log_decay=log_decay, bonus=bonus)
    assert error(moved @ v, want) <= 1e-12


def test_rwkv4_keeps_float32_only_while_its_exponents_suffice():
    log_key, log_decay, bonus, v = randn(1, TIME, 2).float(), -torch.rand(2), randn(2).float(), randn(1, TIME, 2, 1)
    assert families.rwkv4(log_key=log_key, log_decay=log_decay, bonus=bonus).dtype == torch.float32
    far = log_key.clone()
    far[:, :20] -= 200  # e^-200 is zero in float32, and the first rows are made of nothing else
    dynamics = families.rwkv4(log_key=far, log_decay=log_decay, bonus=bonus)
    assert dynamics.dtype == torch.float64
    want = references.rwkv4(value=v, log_key=far, log_decay=log_decay, bonus=bonus)
    assert error(dynamics.operator() @ v, want) <= 1e-12


def test_rwkv4_refuses_what_float64_cannot_hold():
    log_key, log_decay, bonus = torch.zeros(1, 4, 2), -torch.ones(2), torch.zeros(2)
    for bad in (-1000.0, torch.inf, -torch.inf, torch.nan):
        log_key[0, 1, 1] = bad
        with pytest.raises(InputError, match="log keys and bonus of one channel"):
            families.rwkv4(log_key=log_key, log_decay=log_decay, bonus=bonus)
    with pytest.raises(InputError, match="exp\\(time_decay\\)"):
        families.rwkv4(log_key=torch.zeros(1, 4, 2), log_decay=torch.ones(2), bonus=bonus)
    with pytest.raises(InputError, match="channels"):
        families.rwkv4(log_key=torch.zeros(1, 4, 2), log_decay=-torch.ones(3), bonus=bonus)


def test_rwkv4_padding_has_no_say():
    """What padding holds neither overflows nor sets the unit."""
    log_key, log_decay, bonus, v = randn(1, TIME, 2), -torch.rand(2), randn(2), randn(1, TIME, 2, 1)
    segments = torch.tensor([[0] * 50 + [-1] * 40])
    want = references.rwkv4(value=v, log_key=log_key, log_decay=log_decay, bonus=bonus, segments=segments)
    for hostile in (900.0, -torch.inf):
        log_key[:, 50:] = hostile
        op = families.rwkv4(log_key=log_key, log_decay=log_decay, bonus=bonus, segments=segments).operator()
        assert error(op @ v, want) <= 1e-12
        assert error(op.apply(v, return_state=True)[0], want) <= 1e-12


def test_the_decay_of_a_token_is_felt_by_the_next_read():
    """alpha_ij = r_i^T (w_{i-1} * ... * w_{j+1} * k_j): the decays of i and j themselves do not act."""
    q, k, w, u = (randn(1, 8, 2, 3) for _ in range(4))
    log_decay, bonus = -w.abs(), u[0, 0]
    alpha = families.rwkv6(query=q, key=k, log_decay=log_decay, bonus=bonus).operator().to_dense()
    between = log_decay[:, 3:6].sum(1).exp()  # tokens 3, 4, 5 lie between 2 and 6
    assert error(alpha[:, :, 6, 2], (q[:, 6] * between * k[:, 2]).sum(-1)) <= 1e-14
    assert error(alpha[:, :, 3, 2], (q[:, 3] * k[:, 2]).sum(-1)) <= 1e-14
    assert error(alpha[:, :, 6, 6], (q[:, 6] * bonus * k[:, 6]).sum(-1)) <= 1e-14


def test_rwkv6_with_a_constant_decay_is_rwkv5():
    q, k, log_decay, bonus = randn(1, 40, 2, 3), randn(1, 40, 2, 3), -torch.rand(2, 3).double(), randn(2, 3)
    fixed = families.rwkv5(query=q, key=k, log_decay=log_decay, bonus=bonus)
    moving = families.rwkv6(query=q, key=k, log_decay=log_decay.expand(1, 40, 2, 3), bonus=bonus)
    assert error(fixed.operator().to_dense(), moving.operator().to_dense()) <= 1e-13
    with pytest.raises(InputError, match="constant in time"):
        families.rwkv5(query=q, key=k, log_decay=log_decay.expand(1, 40, 2, 3), bonus=bonus)
    with pytest.raises(InputError, match="batch, time, heads, dim"):
        families.rwkv6(query=q, key=k, log_decay=log_decay, bonus=bonus)


def test_rwkv7s_transition_can_be_longer_than_one():
    """Diag(w) - (a d) d^T with a unit d and gates in (0, 1) stretches some vectors, though no eigenvalue exceeds 1."""
    d = torch.tensor([0.8, 0.6], dtype=torch.float64)
    rate, decay = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 1.0], dtype=torch.float64)
    arguments = {name: x.expand(1, 3, 1, 2) for name, x in (("direction", d), ("rate", rate))}
    q, k = randn(1, 3, 1, 2), randn(1, 3, 1, 2)
    dynamics = families.rwkv7(query=q, key=k, log_decay=decay.log().expand(1, 3, 1, 2), **arguments)
    transition = torch.diag(decay) - torch.outer(rate * d, d)
    columns = dynamics.evolution.step(torch.eye(2, dtype=torch.float64)[None, None], 1)[0, 0]
    assert error(columns, transition) <= 1e-15
    assert torch.linalg.matrix_norm(columns, 2) > 1.1
    assert dynamics.evolution.eigenvalues().abs().max() <= 1 + 1e-12
