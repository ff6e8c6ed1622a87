"""Both forms of an activation are the activation, by formulas of another kind (scipy's distribution functions)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import norm

from mixerlens.errors import InputError
from mixerlens.explicit.activations import ACTIVATIONS, activation

HAND = {
    "gelu": lambda y: y * norm.cdf(y),
    "gelu_tanh": lambda y: y * expit(2 * np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)),
    "silu": lambda y: y * expit(y),
    "identity": lambda y: y,
}
POINTS = np.concatenate([np.linspace(-40, 40, 4001), [-1e-8, 0.0, 1e-300, 1e-8]])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_both_forms_are_the_function(name):
    found, y = activation(name), torch.from_numpy(POINTS)
    want = HAND[name](POINTS)
    scale = 1 + np.abs(POINTS)
    for got in (found(y), found.gate(y) * y, found.linear * y + found.curvature(y) * y**2):
        assert float(np.max(np.abs(got.numpy() - want) / scale)) < 1e-14


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_the_curvature_is_even_and_bounded(name):
    found, y = activation(name), torch.from_numpy(POINTS)
    assert torch.equal(found.curvature(y), found.curvature(-y))
    assert float(found.curvature(y).max()) <= found.bound * (1 + 1e-15)
    slope = (HAND[name](1e-6) - HAND[name](-1e-6)) / 2e-6
    assert abs(found.linear - slope) < 1e-9


def test_gradients_hold_at_zero():
    y = torch.tensor([0.0, 1e-9, -2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(activation("gelu").curvature, (y[2:],))
    (slope,) = torch.autograd.grad(activation("silu").curvature(y).sum(), y)
    assert torch.isfinite(slope).all()


def test_another_name_is_refused():
    with pytest.raises(InputError, match="'relu' is no activation with an explicit form; choose from gelu"):
        activation("relu")
