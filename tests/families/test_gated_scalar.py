"""Gated recurrences of one number a channel, against RecurrentGemma's layer and in hard corners."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from families.helpers import error, rand, randn
from mixerlens import families
from mixerlens.errors import InputError

BATCH, TIME, CHANNELS = 2, 150, 6


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


def test_min_gru_is_a_prefix_sum_in_logs():
    """h_t = sum_j z_j v_j prod_{l > j} (1 - z_l), the products as differences of summed logarithms."""
    z, v = 0.9 * rand(BATCH, TIME, CHANNELS), randn(BATCH, TIME, CHANNELS)
    total = torch.log1p(-z).cumsum(1).mT
    weight = (total[..., :, None] - total[..., None, :]).tril().exp().tril() * z.mT[..., None, :]
    want = (weight @ v.mT[..., None])[..., 0].mT
    assert error((families.min_gru(update_gate=z).operator() @ v[..., None])[..., 0], want) <= 1e-12


def test_min_lstm_is_min_gru_with_the_share_of_the_input():
    f, i, v = rand(BATCH, TIME, CHANNELS) + 0.01, rand(BATCH, TIME, CHANNELS), randn(BATCH, TIME, CHANNELS, 1)
    want = families.min_gru(update_gate=i / (f + i)).operator() @ v
    assert error(families.min_lstm(forget_gate=f, input_gate=i).operator() @ v, want) <= 1e-12
    with pytest.raises(InputError, match="must be positive, the smallest is 0"):
        families.min_lstm(forget_gate=0 * f, input_gate=0 * i)


def test_dechunking_is_lfilter_over_chunks_and_repetition():
    """scipy filters the chunks alone, and the cumulative sum of the boundaries repeats them over the tokens."""
    from scipy.signal import lfilter

    boundary = torch.rand(TIME) < 0.3
    boundary[0] = True
    v, p = randn(TIME, 4), torch.full((TIME, 1), 0.37, dtype=torch.float64)
    start = v[boundary][:1].numpy()  # the first chunk has p = 1: the filter begins there
    smooth, _ = lfilter([0.37], [1, -0.63], v[boundary][1:].numpy(), axis=0, zi=0.63 * start)
    chunks = torch.cat([torch.from_numpy(start), torch.from_numpy(smooth)])
    want = chunks[boundary.cumsum(0) - 1]
    p[0] = 1
    op = families.dechunk_ema(probability=p[None], boundary=boundary[None]).operator()
    assert error((op @ v[None, :, None])[0, :, 0], want) <= 1e-12


@pytest.mark.parametrize("boundary", [torch.ones(1, 4), torch.ones(2, 3, dtype=torch.bool)])
def test_boundaries_are_booleans_of_the_tokens(boundary):
    with pytest.raises(InputError, match="boundary must be booleans"):
        families.dechunk_ema(probability=rand(1, 4, 1), boundary=boundary)


def test_longhorn_with_one_state_is_the_implicit_step():
    """At state 1 k k^T is its own diagonal: s_t minimises (s - s_{t-1})^2 + beta (k s - x)^2 exactly."""
    q, k, beta = randn(1, TIME, 1), randn(1, TIME, 1), rand(1, TIME, CHANNELS)
    x = randn(1, TIME, CHANNELS)
    s, rows = torch.zeros(1, CHANNELS, dtype=torch.float64), []
    for t in range(TIME):
        s = (s + beta[:, t] * k[:, t] * x[:, t]) / (1 + beta[:, t] * k[:, t] ** 2)
        rows.append(q[:, t] * s)
    op = families.longhorn(query=q, key=k, beta=beta).operator()
    assert error((op @ x[..., None])[..., 0], torch.stack(rows, 1)) <= 1e-12


def test_longhorn_never_grows():
    """0 <= d k^2 < 1 whatever the key: the decays stay in (0, 1]."""
    d = families.longhorn(query=randn(1, 9, 4), key=1e3 * randn(1, 9, 4), beta=rand(1, 9, CHANNELS))
    eigenvalues = d.evolution.eigenvalues()
    assert (eigenvalues.imag == 0).all()
    assert (eigenvalues.real >= 0).all() and (eigenvalues.real <= 1).all()


@pytest.mark.parametrize(
    ("change", "what"), [({"beta": -rand(1, 3, 2)}, "beta must not be negative"), ({"key": rand(1, 3)}, "must be")]
)
def test_longhorn_refuses(change, what):
    given = {"query": rand(1, 3, 4), "key": rand(1, 3, 4), "beta": rand(1, 3, 2)} | change
    with pytest.raises(InputError, match=what):
        families.longhorn(**given)


def test_gates_of_another_shape_are_refused():
    with pytest.raises(InputError, match="gates must be"):
        families.rg_lru(log_decay=-rand(1, 3), input_gate=rand(1, 3))
