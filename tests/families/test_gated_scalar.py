"""Gated recurrences of one number a channel, against RecurrentGemma's layer and in hard corners."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mixerlens import families
from mixerlens.errors import InputError

BATCH, TIME, CHANNELS = 2, 150, 6


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def error(got, want):
    assert got.shape == want.shape
    return float((got - want).abs().max() / want.abs().max())


@pytest.fixture
def layer():
    from transformers import RecurrentGemmaConfig
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRglru

    config = RecurrentGemmaConfig(lru_width=CHANNELS, num_attention_heads=2, hidden_size=CHANNELS)
    lru = RecurrentGemmaRglru(config).double()
    for p in lru.parameters():
        torch.nn.init.normal_(p)
    lru._rnn_scan = partial(lru._rnn_scan, acc_dtype=torch.float64)  # the layer's own sum is float32
    return lru


def gates(lru, x):
    """The layer's two gates, from its weights by the paper's formulas; blocks of channels by block-diagonal maps."""
    heads = x.unflatten(-1, (2, -1))
    recurrent, entry = (
        torch.sigmoid(torch.einsum("bthi,hij->bthj", heads, weight) + bias).flatten(-2)
        for weight, bias in (
            (lru.recurrent_gate_weight, lru.recurrent_gate_bias),
            (lru.input_gate_weight, lru.input_gate_bias),
        )
    )
    return -8 * recurrent * F.softplus(lru.recurrent_param), entry


def test_rg_lru_is_recurrent_gemmas(layer):
    """Two documents in one row of positions: log_decay -inf is the layer's reset, with the factor 1."""
    x = randn(BATCH, TIME, CHANNELS)
    place = torch.cat([torch.arange(100), torch.arange(50)]).expand(BATCH, -1)
    with torch.no_grad():
        want = layer(x, place)
        log_decay, entry = gates(layer, x)
    reset = torch.where(place[..., None] == 0, -math.inf, log_decay)
    op = families.rg_lru(log_decay=reset, input_gate=entry).operator()
    assert error(op @ x[..., None], want[..., None]) <= 1e-12
    forgotten = families.rg_lru(log_decay=log_decay, input_gate=entry).operator()
    assert error(forgotten @ x[..., None], want[..., None]) > 0.01  # the factor at a reset is no detail


def test_the_share_of_the_input_survives_a_decay_near_one():
    """sqrt(1 - a^2) from 1 - a^2 in floating point is lost where a rounds to 1."""
    size = torch.tensor([1e-18, 1e-12, 1e-6, 1.0, 50.0], dtype=torch.float64)
    d = families.rg_lru(log_decay=-size.expand(1, TIME, 5), input_gate=torch.ones(1, TIME, 5).double())
    want = torch.tensor([math.sqrt(-math.expm1(-2 * s)) for s in size.tolist()], dtype=torch.float64)
    assert ((d.operator().diagonal()[0, :, 3] - want).abs() <= 1e-15 * want).all()
    low = families.rg_lru(log_decay=-size.float().expand(1, TIME, 5), input_gate=torch.ones(1, TIME, 5))
    assert ((low.operator().diagonal()[0, :, 3] - want).abs() <= 1e-6 * want).all()


def test_positive_log_decay_is_refused():
    with pytest.raises(InputError, match="log_decay must not be positive"):
        families.rg_lru(log_decay=rand(1, 3, 2), input_gate=rand(1, 3, 2))


def test_gates_of_another_shape_are_refused():
    with pytest.raises(InputError, match="gates must be"):
        families.rg_lru(log_decay=-rand(1, 3), input_gate=rand(1, 3))
