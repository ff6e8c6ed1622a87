"""Intervals against scipy's own, and the share of cases that they cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mixerlens.sweep.intervals import of_difference, of_mean, student


def test_student_is_scipys():
    values = [0.5, 0.7, 0.65, 0.9]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student(values) == pytest.approx(tuple(expected), rel=1e-12)
    assert student([0.5]) is None


def test_one_seed_has_wilsons_interval_and_several_never_a_narrower_one():
    wilson = stats.binomtest(80, 100).proportion_ci(0.95, "wilson")
    assert of_mean([(80, 100)]) == pytest.approx((0.8, wilson.low, wilson.high), rel=1e-12)
    agreeing = of_mean([(80, 100), (80, 100)])
    pooled = stats.binomtest(160, 200).proportion_ci(0.95, "wilson")
    assert agreeing == pytest.approx((0.8, pooled.low, pooled.high), rel=1e-12)
    apart = of_mean([(60, 100), (70, 100), (95, 100)])
    expected = stats.ttest_1samp([0.6, 0.7, 0.95], 0).confidence_interval(0.95)
    assert apart == pytest.approx((0.75, expected.low, 1.0), rel=1e-12)


def test_perfect_runs_are_not_certain():
    mean, low, high = of_mean([(100, 100)] * 3)
    assert (mean, high) == (1.0, 1.0) and 0.98 < low < 1
    mean, low, high = of_difference([(100, 100)] * 3, [(100, 100)] * 3)
    assert mean == 0 and low == pytest.approx(-high) and 0 < high < 0.02


def test_differences_are_paired_by_seed():
    ours, theirs = [(90, 100), (50, 100), (70, 100)], [(80, 100), (41, 100), (59, 100)]
    mean, low, high = of_difference(ours, theirs)
    expected = stats.ttest_rel([0.9, 0.5, 0.7], [0.8, 0.41, 0.59]).confidence_interval(0.95)
    assert mean == pytest.approx(0.1)
    assert low <= expected.low < expected.high <= high  # and wide where the answers are few
    assert of_difference(theirs, ours) == pytest.approx((-mean, -high, -low))


def test_newcombes_interval_of_the_published_example():
    # method 10 on 56/70 and 48/80: 0.0524 to 0.3339 (Newcombe 1998, table II, case a)
    assert of_difference([(56, 70)], [(48, 80)]) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        shares = np.clip(generator.normal(0.7, 0.05, 4), 0, 1)
        _, low, high = of_mean([(int(generator.binomial(500, share)), 500) for share in shares])
        hits += low <= 0.7 <= high
    assert hits >= 372  # 95 % less two standard errors
