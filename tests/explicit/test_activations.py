"""Both forms of an activation are the activation, by formulas of another kind (scipy's distribution functions)."""

from __future__ import annotations

import math

import mpmath
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


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_the_curvature_is_positive(name):
    """Strictly: every wave's own term has one sign, that of its weight."""
    y = torch.from_numpy(np.concatenate([POINTS, np.geomspace(1e-300, 1e300, 601)]))
    found = activation(name).curvature(y)
    assert float(found.min()) > 0 and float(found.max()) <= activation(name).bound * (1 + 1e-15)
    assert activation(name).bound == pytest.approx({"silu": 0.25}.get(name, 1 / math.sqrt(2 * math.pi)), rel=1e-15)


def test_a_glu_is_bilinear_with_the_curvature_of_silu_as_its_gain():
    curvature = activation("silu").curvature(torch.from_numpy(POINTS)).numpy()
    np.testing.assert_allclose(0.5 + POINTS * curvature, expit(POINTS), rtol=0, atol=4e-16)
    assert curvature.min() > 0 and curvature.max() <= 0.25


DIGITS = 400  # of mpmath: at y = 1e-150 the quotient cancels 300 of them


def _curvature(name: str, y: mpmath.mpf) -> mpmath.mpf:
    inner = y / 2 if name == "silu" else mpmath.sqrt(2 / mpmath.pi) * (y + mpmath.mpf(0.044715) * y**3)
    odd = mpmath.erf(y / mpmath.sqrt(2)) if name == "gelu" else mpmath.tanh(inner)
    return odd / (2 * y)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_values_and_gradients_near_zero(name):
    """Against the quotient in 400 digits; the slope by a central difference of them."""
    points = [1e-150, 1e-12, -1e-9, 1e-4, 0.03, 0.2499999, -0.25, 0.2500001, 0.6, -2.0]
    y = torch.tensor([0.0, *points], dtype=torch.float64, requires_grad=True)
    values = activation(name).curvature(y)
    (slopes,) = torch.autograd.grad(values.sum(), y)
    assert (values[0].item(), slopes[0].item()) == (activation(name).bound, 0.0)
    with mpmath.workdps(DIGITS):
        for at, value, slope in zip(map(mpmath.mpf, points), values[1:].tolist(), slopes[1:].tolist(), strict=True):
            step = abs(at) * mpmath.mpf(10) ** -30
            difference = (_curvature(name, at + step) - _curvature(name, at - step)) / (2 * step)
            assert value == pytest.approx(float(_curvature(name, at)), rel=1e-15)
            assert slope == pytest.approx(float(difference), rel=2e-14)


def test_second_derivatives_too():
    y = torch.tensor([0.0, 0.1, -2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(activation("gelu").curvature, (y,))


def test_another_name_is_refused():
    with pytest.raises(InputError, match="'relu' is no activation with an explicit form; choose from gelu"):
        activation("relu")
