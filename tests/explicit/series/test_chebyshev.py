"""Chebyshev series against numpy's interpolation and the functions themselves; the bound holds and is sharp."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev as numpy_chebyshev
from scipy.special import expit, log1p
from scipy.stats import norm

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.explicit.series import Chebyshev, chebyshev
from mixerlens.explicit.series.chebyshev import bernstein

HAND = {
    "gelu": lambda y: y * norm.cdf(y),
    "gelu_tanh": lambda y: y * expit(2 * np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)),
    "silu": lambda y: y * expit(y),
    "sigmoid": expit,
    "softplus": lambda y: np.maximum(y, 0) + log1p(np.exp(-np.abs(y))),
    "identity": lambda y: y,
}


def series(name: str, *ranges: float, **wanted: Any) -> Chebyshev:
    return chebyshev(name, torch.tensor(ranges, dtype=torch.float64), **wanted)


@pytest.mark.parametrize(("largest", "degree"), [(5.0, 16), (8.0, 26)])
def test_degrees_16_and_26_reach_a_thousandth(largest, degree):
    found = series("gelu", largest, degree=degree)
    assert float(found.bound) < 1e-3
    assert series("gelu", largest, tolerance=1e-3).degree <= degree
    y = np.linspace(-largest, largest, 4001)
    assert np.abs(found(torch.from_numpy(y)[:, None])[:, 0].numpy() - HAND["gelu"](y)).max() < 1e-3


@pytest.mark.parametrize("name", sorted(HAND))
@pytest.mark.parametrize("tolerance", [1e-3, 1e-7])
def test_the_bound_holds_on_every_range_and_is_sharp(name, tolerance):
    ranges = np.array([0.3, 2.0, 5.0, 8.0, 30.0])
    found = series(name, *ranges, tolerance=tolerance)
    y = np.linspace(-1, 1, 4001)[:, None] * ranges
    error = np.abs(found(torch.from_numpy(y)).numpy() - HAND[name](y)).max(0)
    assert (error <= found.bound.numpy()).all() and float(found.bound.max()) <= tolerance
    if name != "identity":
        assert float(found.bound[-1]) < 3 * error[-1] + 1e-9


@pytest.mark.parametrize("name", sorted(set(HAND) - {"identity"}))
def test_coefficients_and_their_tails(name):
    largest = 6.0
    want = numpy_chebyshev.chebinterpolate(lambda x: HAND[name](largest * x), 300)
    found = series(name, largest, degree=20)
    np.testing.assert_allclose(found.coefficients[0], want[:21], rtol=0, atol=1e-13)
    for degree in (4, 11, 20, 30):
        assert np.abs(want[degree + 1 :]).sum() <= bernstein(name, largest, degree) + 1e-12


def test_a_value_out_of_range_is_never_silent():
    found = series("gelu", 1.0, 2.0, degree=8)
    y = torch.tensor([[0.5, 1.9], [1.1, 2.5], [-1.0, -2.0], [float("nan"), 0.0]])
    assert found.outside(y).tolist() == [[False, False], [True, True], [False, False], [True, False]]
    with pytest.raises(InputError, match="3 of 8 values are out of range"):
        found(y)


def test_powers_where_their_conversion_is_certified():
    found = series("gelu", 1.5, 5.0, degree=16)
    powers = found.homogeneous(1e-9)
    y = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None] * found.ranges
    summed = (powers * y[..., None] ** torch.arange(17)).sum(-1)
    assert float((summed - found(y)).abs().max()) < 1e-9
    for feature, largest in enumerate((1.5, 5.0)):
        want = numpy_chebyshev.cheb2poly(found.coefficients[feature].numpy()) / largest ** np.arange(17)
        np.testing.assert_allclose(powers[feature], want, rtol=1e-9, atol=1e-14)
    with pytest.raises(UnsupportedError, match="powers of a Chebyshev series of degree 60 may err by"):
        series("gelu", 8.0, degree=60).homogeneous(1e-6)


def test_refusals():
    with pytest.raises(InputError, match="ranges must be"):
        series("gelu", 1.0, -1.0, degree=4)
    with pytest.raises(InputError, match=r"ranges must be .* not \(0,\)$"):
        series("gelu", degree=4)
    with pytest.raises(InputError, match="tolerance must be positive, not nan"):
        series("gelu", 1.0, tolerance=float("nan"))
    with pytest.raises(InputError, match="give a degree of at least 1 or a tolerance"):
        series("gelu", 1.0)
    with pytest.raises(UnsupportedError, match=r"certified to .* at best"):
        series("gelu", 5.0, tolerance=1e-16)
    with pytest.raises(UnsupportedError, match="needs a degree above 4096"):
        series("silu", 1000.0, degree=10)
