"""Taylor series against mpmath at 60 digits: coefficients, remainders that hold, and refusals that are deserved."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.special import erf

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.explicit.series import certify, order_needed, radius, taylor
from mixerlens.explicit.series.analytic import ANALYTIC, CUBIC
from mixerlens.explicit.series.taylor import remainder, rounding

HAND = {
    "gelu": lambda y: y * (1 + mp.erf(y / mp.sqrt(2))) / 2,
    "gelu_tanh": lambda y: y * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (y + mp.mpf("0.044715") * y**3))) / 2,
    "silu": lambda y: y / (1 + mp.exp(-y)),
    "sigmoid": lambda y: 1 / (1 + mp.exp(-y)),
    "softplus": lambda y: mp.log(1 + mp.exp(y)),
    "identity": lambda y: y,
}


@pytest.mark.parametrize("name", sorted(HAND))
def test_coefficients(name):
    with mp.workdps(60):
        points = [mp.expjpi(mp.mpf(2 * k) / 64) for k in range(64)]  # Cauchy sums on the circle |z| = 1 / 2
        circle = [HAND[name](p / 2) for p in points]
        want = [float(mp.re(sum(f / p**n for f, p in zip(circle, points, strict=True)) * 2**n / 64)) for n in range(20)]
        far = [mp.expjpi(mp.mpf(2 * k) / 512) * 2 for k in range(512)]  # and on |z| = 2
        late = [float(mp.re(sum(HAND[name](p) / p**n for p in far) / 512)) for n in (200, 201)]
    got = taylor(name, 19)
    assert got.dtype == torch.float64 and got.shape == (20,)
    np.testing.assert_allclose(got, want, rtol=4e-16, atol=1e-14)
    np.testing.assert_allclose(taylor(name, 201)[200:], late, rtol=1e-12, atol=1e-115)
    assert taylor(name, 3).tolist() == got[:4].tolist()


def test_the_closed_form_of_gelu_needs_no_odd_order_above_one():
    a = taylor("gelu", 41)
    assert not a[3::2].any() and a[0] == 0 and a[1] == 0.5
    for m in range(20):
        want = (-1) ** m / (math.sqrt(2 * math.pi) * 2**m * math.factorial(m) * (2 * m + 1))
        assert abs(float(a[2 * m + 2]) / want - 1) < 1e-14


@pytest.mark.parametrize(
    ("name", "want"),
    [("gelu", math.inf), ("gelu_tanh", 2.83), ("silu", math.pi), ("sigmoid", math.pi), ("softplus", math.pi)],
)
def test_radius_of_convergence(name, want):
    assert radius(name) == pytest.approx(want, rel=2e-3)
    a = taylor(name, 512).abs().numpy()
    tail = np.array([x ** (-1 / p) for p, x in enumerate(a) if p > 300 and x > 0])
    if want == math.inf:
        assert tail.size == 0 or tail.min() > 10
    else:  # the root test, whose limit superior is the radius
        assert tail.min() == pytest.approx(radius(name), rel=0.02)


@pytest.mark.parametrize("name", sorted(HAND))
@pytest.mark.parametrize("largest", [0.5, 2.0, 2.6, 5.0])
def test_the_remainder_is_a_bound_and_a_sharp_one(name, largest):
    if largest >= ANALYTIC[name].strip:
        assert remainder(name, 40, largest) == math.inf
        return
    with mp.workdps(80):
        for order in (0, 1, 2, 9, 30, 60):
            a = [mp.mpf(float(x)) for x in taylor(name, order)]
            for y in (-largest, -0.7 * largest, 0.9 * largest, largest):
                error = abs(HAND[name](mp.mpf(y)) - mp.polyval(a[::-1], mp.mpf(y)))
                assert error <= remainder(name, order, largest) * (1 + 1e-12) + rounding(name, order, largest)
            if ANALYTIC[name].enveloping and order > 1 and error > 1e-12 and largest < 3:
                assert remainder(name, order, largest) < 10 * error


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_the_growth_holds_in_the_complex_plane(name):
    generator = np.random.default_rng(0)
    for share in (0.05, 0.4, 0.8, 0.99):
        height = share * min(ANALYTIC[name].strip, 6)
        z = generator.uniform(-8, 8, 20000) + 1j * height * generator.uniform(-1, 1, 20000)
        edge = generator.uniform(-3, 3, 20000) + 1j * height  # where it is largest
        z = np.concatenate([z, edge, [1j * height]])
        gate = {
            "gelu": lambda z: erf(z / math.sqrt(2)) / 2,
            "gelu_tanh": lambda z: np.tanh(math.sqrt(2 / math.pi) * (z + CUBIC * z**3)) / 2,
            "silu": lambda z: np.tanh(z / 2) / 2,
        }[name](z)
        bound = ANALYTIC[name].growth(1.0, height)
        assert np.abs(gate).max() <= bound * (1 + 1e-13)
        assert bound < 5 * max(np.abs(gate).max(), 0.5)


def test_order_74_is_the_first_certified_at_5():
    assert order_needed("gelu", 5.0, 1e-3) == 74
    assert certify("gelu", 74, 5.0, 1e-3) < 1e-3
    y = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    for order, holds in ((74, True), (72, True), (70, False)):
        value = (taylor("gelu", order) * y[:, None] ** torch.arange(order + 1)).sum(1)
        assert (float((value - torch.nn.functional.gelu(y)).abs().max()) < 1e-3) is holds  # 72 errs by 8.5e-4
    with pytest.raises(UnsupportedError, match=r"order 72 .* order 74 is needed"):
        certify("gelu", 72, 5.0, 1e-3)


def test_float64_fails_at_10_and_says_so():
    with pytest.raises(UnsupportedError, match=r"needs order 276 .* cancel to an error of .* in float64"):
        certify("gelu", 400, 10.0, 1e-3)
    y = torch.tensor(10.0, dtype=torch.float64)
    value = (taylor("gelu", 276) * y ** torch.arange(277)).sum()
    assert abs(float(value) - 10) > 1e-3  # what it would have returned
    with pytest.raises(UnsupportedError, match="needs order 2448"):
        certify("gelu", 400, 30.0, 1e-3)
    with pytest.raises(UnsupportedError, match=r"needs order 57\d .* there are 512 here"):
        certify("silu", 400, 3.1, 1e-3)


@pytest.mark.parametrize("name", ["silu", "sigmoid", "softplus", "gelu_tanh"])
def test_beyond_the_poles_no_order_is_enough(name):
    assert order_needed(name, 3.2, 1e-3) is None
    with pytest.raises(UnsupportedError, match=rf"{name} is certified below .*radius of convergence .* use the Cheb"):
        certify(name, 100, 3.2, 1e-3)


def test_refusals():
    with pytest.raises(InputError, match="'relu' has no series here; choose from gelu"):
        taylor("relu", 4)
    with pytest.raises(InputError, match="order must be from 0 to 512, not 513"):
        taylor("gelu", 513)
    with pytest.raises(InputError, match="tolerance must be positive"):
        order_needed("gelu", 1.0, 0.0)
    for largest in (math.nan, -1.0, math.inf):
        for ask in (lambda r: certify("gelu", 4, r, 1e-3), lambda r: remainder("silu", 4, r)):
            with pytest.raises(InputError, match=f"must be a finite number from 0 on, not {largest}"):
                ask(largest)
