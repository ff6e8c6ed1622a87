"""Hermite shares against Gauss quadrature and adaptive integration, and the facts that make them a baseline."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from numpy.polynomial import hermite_e
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.explicit.series import hermite_shares

HAND = {"gelu": lambda y: y * norm.cdf(y), "silu": lambda y: y * expit(y), "sigmoid": expit}


@pytest.mark.parametrize("name", sorted(HAND))
@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (-1.0, 0.5), (0.7, 1.3)])
def test_against_gauss_quadrature(name, mean, sd):
    x, weight = hermite_e.hermegauss(160)
    weight, f = weight / weight.sum(), HAND[name](mean + sd * x)
    variance = weight @ f**2 - (weight @ f) ** 2
    want = [
        (weight @ (f * hermite_e.hermeval(x, np.eye(7)[n]))) ** 2 / math.factorial(n) / variance for n in range(1, 7)
    ]
    np.testing.assert_allclose(hermite_shares(name, mean, sd, 6), want, rtol=1e-9, atol=1e-12)


def test_the_first_shares_by_adaptive_integration():
    f = lambda x: HAND["gelu"](3 * x - 2)
    moment = lambda g: quad(lambda x: g(x) * norm.pdf(x), -12, 12, epsabs=1e-13, limit=400)[0]
    variance = moment(lambda x: f(x) ** 2) - moment(f) ** 2
    want = [moment(lambda x: f(x) * x) ** 2 / variance, moment(lambda x: f(x) * (x * x - 1)) ** 2 / 2 / variance]
    np.testing.assert_allclose(hermite_shares("gelu", -2, 3, 2), want, rtol=1e-9)


def test_orders_one_and_two_carry_95_9_percent_at_any_scale():
    shares = [float(hermite_shares("gelu", 0, sd, 2).sum()) for sd in np.geomspace(1e-2, 1e3, 60)]
    assert 0.9589 < min(shares) < 0.9605
    # wide: GELU is a ReLU, 1/4 and 1 / (4 pi) of 1/2 - 1 / (2 pi)
    assert shares[-1] == pytest.approx((0.25 + 0.25 / math.pi) / (0.5 - 0.5 / math.pi), abs=1e-4)


@pytest.mark.parametrize(("mean", "want"), [(-1.0, 0.82), (-2.0, 0.26)])
def test_away_from_zero_mean_they_carry_less(mean, want):
    assert round(float(hermite_shares("gelu", mean, 1, 2).sum()), 2) == want


@pytest.mark.parametrize(("mean", "sd"), [(-12, 1), (-20, 1)])
def test_units_that_are_almost_dead(mean, sd):
    """GELU's values there, about 1e-20, are lost in 1 + erf; in 30 digits they are not."""
    with mpmath.workdps(30):
        f = lambda x: (mean + sd * x) * mpmath.ncdf(mean + sd * x) * 10**32  # quad takes 1e-30 for nothing
        moment = lambda g: mpmath.quad(lambda x: g(x) * mpmath.npdf(x), range(-4, 37, 4))
        middle = moment(f)
        variance = moment(lambda x: (f(x) - middle) ** 2)
        want = float(moment(lambda x: f(x) * (x**3 - 3 * x)) ** 2 / 6 / variance)
        late = float(moment(lambda x: f(x) * _orthonormal(32, x)) ** 2 / variance)
    found = hermite_shares("gelu", mean, sd, 32)
    assert (float(found[2]), float(found[31])) == (pytest.approx(want, rel=1e-9), pytest.approx(late, rel=1e-9))


def _orthonormal(n: int, x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.hermite(n, x / mpmath.sqrt(2)) / mpmath.sqrt(mpmath.factorial(n) * mpmath.mpf(2) ** n)


def test_shares_sum_to_one():
    assert float(hermite_shares("gelu", 0, 1, 32).sum()) == pytest.approx(1, abs=1e-6)
    assert hermite_shares("identity", -3, 2, 3).tolist() == pytest.approx([1, 0, 0], abs=1e-12)


def test_refusals():
    with pytest.raises(InputError, match="sd positive and finite, not 0 and -1"):
        hermite_shares("gelu", 0, -1)
    for name, mean in (("gelu", -60), ("gelu", -50), ("sigmoid", -800), ("gelu_tanh", -60)):
        with pytest.raises(UnsupportedError, match=f"variance of {name} at mean {mean}, sd 1 lies 36 standard dev"):
            hermite_shares(name, mean, 1)
    with pytest.raises(InputError, match="order must be from 1 to 32, not 40"):
        hermite_shares("gelu", 0, 1, 40)
