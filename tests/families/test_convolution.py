"""Convolutions against torch's, LFM2's and the state a shift register holds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mixerlens import families
from mixerlens.errors import InputError

BATCH, TIME, CHANNELS, WIDTH = 2, 150, 5, 4


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def error(got, want):
    assert got.shape == want.shape
    return float((got - want).abs().max() / want.abs().max())


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
    with pytest.raises(InputError, match="taps must be \\(channels, width\\)"):
        families.short_convolution(taps=randn(*shape), length=TIME)
