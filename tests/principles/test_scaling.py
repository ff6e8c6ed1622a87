"""Principle 5 against the moments of normal numbers in closed form, and loops in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, families, principles
from mixerlens.errors import InputError


def vectors(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_features_with_known_moments():
    """Normal: 0 and n. |normal|: mean n 2 / pi, variance n (1 - 4 / pi^2). relu: n / (2 pi). Unit: 0 and 1 / n."""
    wanted = {
        "normal": (0, lambda n: n, 1),
        "absolute": (2 / math.pi, lambda n: n * (1 - 4 / math.pi**2), 1),
        "relu": (1 / (2 * math.pi), lambda n: n * (1 / 4 - 1 / (4 * math.pi**2)), 1),
        "unit": (0, lambda n: 1 / n, -1),
    }
    for name, (mean, variance, slope) in wanted.items():
        found = principles.score_growth(name, seed=3)
        half = (found.high - found.low) / 2  # of a 95 % interval: twice of it is 4 errors of the mean
        assert abs(found.slope - slope) < 2 * half < 0.06
        for n, m, v in zip(found.widths, found.mean.tolist(), found.variance.tolist(), strict=True):
            assert v == pytest.approx(variance(n), rel=0.04)
            assert m == pytest.approx(n * mean, abs=5 * math.sqrt(variance(n) / (16 * 1024)))
        assert math.isnan(found.mean_slope) if mean == 0 else abs(found.mean_slope - 1) < 0.01


def test_features_of_ones_own():
    def heavy(width, count, draw):
        q = torch.randn(count, 1, dtype=torch.float64, generator=draw).expand(-1, width)
        return q, torch.ones(count, width, dtype=torch.float64)

    found = principles.score_growth(heavy, widths=(2, 8, 32))  # z = n g: the variance is n^2
    assert found.slope == pytest.approx(2, abs=0.02)
    with pytest.raises(InputError, match="features are 'wild'"):
        principles.score_growth("wild")
    with pytest.raises(InputError, match="at least two widths"):
        principles.score_growth("normal", widths=(4,))


def test_the_slope_is_least_squares():
    def scripted(width, count, draw):
        q = torch.randn(count, width, dtype=torch.float64, generator=draw)
        return q, torch.ones_like(q)

    found = principles.score_growth(scripted, widths=(1, 3, 10), pairs=50, seed=5)
    draw, slopes = torch.Generator().manual_seed(5), []
    for _ in range(16):
        scores = [torch.randn(50, n, dtype=torch.float64, generator=draw).sum(-1).numpy() for n in (1, 3, 10)]
        slopes.append(np.polyfit(np.log([1, 3, 10]), np.log([s.var(ddof=1) for s in scores]), 1)[0])
    half = 2.1314495 * np.std(slopes, ddof=1) / 4
    assert found.slope == pytest.approx(np.mean(slopes), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((np.mean(slopes) - half, np.mean(slopes) + half), rel=1e-7)


def test_scores_as_the_mixer_reads_them():
    time = 10
    query, key, decay = vectors(1, time, 1, 3), vectors(1, time, 1, 3), torch.rand(1, time, 1, dtype=torch.float64)
    d = CoefficientDynamics(query, key, evolution.Scalar(decay=decay), scaling=2 * torch.ones(1, 1, 1).double())
    found = principles.scaling(d)
    q, k, a = query[0, :, 0].numpy(), key[0, :, 0].numpy(), decay[0, :, 0].numpy()
    z = [2 * q[i] @ k[j] * np.prod(a[j + 1 : i + 1]) for i in range(time // 2, time) for j in range(i + 1)]
    assert float(found.variance) == pytest.approx(np.var(z), rel=1e-12)
    assert float(found.mean) == pytest.approx(np.mean(z), rel=1e-12)
    assert float(found.ratio) == pytest.approx(abs(np.mean(z)) / np.std(z), rel=1e-12)


def test_heads_that_scaling_fits_and_two_that_it_does_not():
    time, dim = 400, 64
    query, key = vectors(1, time, 1, dim), vectors(1, time, 1, dim)

    def measured(q, k):
        return principles.scaling(CoefficientDynamics(q, k))

    free = measured(query, key)
    assert 0.9 < float(free.slope) < 1.1 and bool(free.mean_slope.isnan()) and free.conditions[0].holds
    assert float(free.variance) == pytest.approx(dim, rel=0.2) and free.widths == (2, 4, 8, 16, 32, 64)
    positive = measured(query.abs(), key.abs())
    assert 0.95 < float(positive.mean_slope) < 1.05 and float(positive.ratio) > 3 and not positive.conditions[0].holds
    unit = [x / x.norm(dim=-1, keepdim=True) for x in (query, key)]
    small = measured(*unit)
    assert -1.15 < float(small.slope) < -0.85 and small.norms == (("unit", "unit"),)
    assert float(small.variance) == pytest.approx(1 / dim, rel=0.2) and not small.conditions[1].holds
    rms = measured(*(x * dim**0.5 for x in unit))
    assert 0.85 < float(rms.slope) < 1.15 and rms.norms == (("rms", "rms"),)


def test_nothing_to_grow_with_is_said():
    one = principles.scaling(CoefficientDynamics(vectors(1, 20, 1, 1), vectors(1, 20, 1, 1)))
    assert "one product" in one.silent and bool(one.slope.isnan().all()) and one.widths == ()
    rate = torch.complex(-torch.rand(1, 3) - 0.1, torch.randn(1, 3)).to(torch.complex128)
    constant = families.s4d(A=rate, B=torch.ones_like(rate), C=torch.ones_like(rate), dt=torch.rand(1), length=40)
    found = principles.scaling(constant)
    assert found.silent and found.norms == (("free", "free"),) and found.to_json()["slope"] == [None]


def test_a_single_score_has_no_deviations():
    one = torch.randn(1, 1, 1, 3, dtype=torch.float64)
    found = principles.scaling(CoefficientDynamics(one, one))
    assert bool(found.ratio.isnan()) and "inf" not in found.meaning and "do not differ" in found.meaning
    assert found.conditions[0].holds is None and "isotropic" in found.theorem
