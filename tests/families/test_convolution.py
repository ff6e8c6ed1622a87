"""Convolutions against torch's, LFM2's and the state a shift register holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from families.helpers import error, randn
from mixerlens import families
from mixerlens.errors import InputError, MemoryBudgetError
from mixerlens.support import Support

BATCH, TIME, CHANNELS, WIDTH = 2, 150, 5, 4


@pytest.mark.parametrize("width", [1, 4, 151])
def test_short_convolution_is_torchs(width):
    taps, v = randn(CHANNELS, width), randn(BATCH, TIME, CHANNELS, 1)
    padded = F.pad(v[..., 0].mT, (width - 1, 0))
    want = F.conv1d(padded, taps.flip(-1)[:, None], groups=CHANNELS).mT[..., None]
    op = families.short_convolution(taps=taps, length=TIME).operator()
    assert error(op @ v, want) <= 1e-12
    assert error(op.column(0)[0, :, :width], taps[:, :TIME]) <= 1e-13


def test_short_convolution_is_lfm2s():
    """What the layer hands to its kernel are the taps in reverse order."""
    from transformers.models.lfm2.modeling_lfm2 import causal_conv1d_fn

    weight, x = randn(CHANNELS, 3), randn(BATCH, CHANNELS, TIME)
    want = causal_conv1d_fn(x, weight).mT[..., None]
    op = families.short_convolution(taps=weight.flip(-1), length=TIME).operator()
    assert error(op @ x.mT[..., None], want) <= 1e-12


def test_the_state_is_the_last_values():
    v = randn(BATCH, TIME, CHANNELS, 1)
    state = families.short_convolution(taps=randn(CHANNELS, WIDTH), length=TIME).operator().state_at(99, v)
    assert torch.equal(state[..., 0], v[:, 96:100, :, 0].flip(1).mT)


def test_alpha_is_a_function_of_the_lag():
    assert families.short_convolution(taps=randn(CHANNELS, WIDTH), length=TIME).time_invariant


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 3, 4)])
def test_taps_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"taps must be \(channels, width\)"):
        families.short_convolution(taps=randn(*shape), length=TIME)


def test_hyena_is_gates_around_a_long_convolution():
    """By FFT in float64 over the padded sequence, the way the model computes it."""
    taps, x1, x2, v = randn(CHANNELS, TIME), *(randn(BATCH, TIME, CHANNELS) for _ in range(3))
    size = 2 * TIME
    spectrum = torch.fft.rfft((x2 * v).mT, size) * torch.fft.rfft(taps, size)
    want = x1 * torch.fft.irfft(spectrum, size)[..., :TIME].mT
    op = families.hyena(taps=taps, query_gate=x1, key_gate=x2).operator()
    assert error((op @ v[..., None])[..., 0], want) <= 1e-12
    plain = families.short_convolution(taps=taps, length=TIME).operator()
    assert error(x1 * (plain @ (x2 * v)[..., None])[..., 0], want) <= 1e-12


def test_a_long_filter_has_the_state_of_its_rational_form():
    """Random taps need T / 2 numbers at the middle; those of a sum of three exponentials need 3."""
    lag = torch.arange(TIME, dtype=torch.float64)
    rational = (torch.tensor([0.9, -0.7, 0.3])[:, None] ** lag).sum(0)[None]
    for taps, rank in ((randn(1, TIME), TIME // 2), (rational, 3)):
        op = families.short_convolution(taps=taps, length=TIME).operator()
        assert int(op.state_rank(tol=1e-10, cuts=[TIME // 2])) == rank


def test_hyena_says_how_much_memory_it_wants(monkeypatch):
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "1000000")
    gate = randn(1, TIME, CHANNELS)
    with pytest.raises(MemoryBudgetError, match=r"needs 900000000 bytes.*short_convolution"):
        families.hyena(taps=randn(1, 1).expand(CHANNELS, 150_000), query_gate=gate, key_gate=gate)


def test_hyena_refuses_gates_of_other_channels():
    with pytest.raises(InputError, match=r"query_gate must be \(batch, time, 5\)"):
        families.hyena(taps=randn(CHANNELS, 4), query_gate=randn(1, TIME, 3), key_gate=randn(1, TIME, 3))


@pytest.mark.parametrize("window", [1, 5, 200])
def test_a_window_of_linear_attention_is_a_support(window):
    q, k, v = (randn(BATCH, TIME, 2, 3) for _ in range(3))
    dynamics = families.sliding_window_linear_attention(query=q, key=k, window=window)
    cut = replace(families.linear_attention(query=q, key=k), support=Support(window=window))
    assert error(dynamics.operator() @ v, cut.operator() @ v) <= 1e-12
    i = torch.arange(TIME)
    inside = (i[:, None] >= i) & (i[:, None] - i < window)
    want = torch.where(inside, torch.einsum("bihd,bjhd->bhij", q, k), 0)
    assert error(dynamics.operator().to_dense(), want) <= 1e-12
    assert dynamics.recurrent
    assert not cut.recurrent
    assert int(dynamics.operator().state_rank(tol=1e-10).max()) <= min(3 * window, TIME // 2)


def test_a_window_of_no_tokens_is_refused():
    with pytest.raises(InputError, match="window is 0"):
        families.sliding_window_linear_attention(query=randn(1, 3, 1, 2), key=randn(1, 3, 1, 2), window=0)
