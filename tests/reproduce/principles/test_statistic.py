"""The statistic fixed before the runs: against scipy, and on drawn data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mixerlens.reproduce.principles.statistic import correlation, ranks, spearman


def test_ranks_and_correlation_are_scipys():
    generator = np.random.default_rng(0)
    for _ in range(20):
        x, y = generator.integers(0, 8, (2, 30)).astype(float)  # many equal numbers
        np.testing.assert_array_equal(ranks(x), stats.rankdata(x))
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    rows = generator.normal(size=(2, 5, 12))
    np.testing.assert_allclose(spearman(*rows), [stats.spearmanr(a, b).statistic for a, b in zip(*rows, strict=True)])
    assert spearman(np.ones(9), np.arange(9.0)) == 0


def test_the_rank_of_a_radius_is_that_of_its_half_life():
    radius = np.random.default_rng(0).uniform(0.01, 0.999, 50)
    np.testing.assert_array_equal(ranks(radius), ranks(np.log(0.5) / np.log(radius)))


def test_the_permutation_p_is_right_on_average_without_a_relation():
    generator = np.random.default_rng(1)
    found = [correlation(*generator.normal(size=(2, 20)), ["a"] * 20) for _ in range(40)]
    p = [each.p for each in found]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert all(each.verdict == "too few models" for each in found)
    # of one group, a permutation within it is a free one
    assert np.allclose([each.p_within for each in found], p, atol=0.03)


def test_a_relation_is_seen_and_its_sign():
    generator = np.random.default_rng(2)
    x = generator.normal(size=72)
    y = x + generator.normal(size=72)
    theory = stats.spearmanr(x, y)
    found = correlation(x, y, ["a", "b", "c"] * 24)
    assert found.rho == pytest.approx(theory.statistic) and found.low < found.rho < found.high
    assert found.verdict == "predicts" and found.p == pytest.approx(1 / 10_001)
    assert correlation(x, -y, ["a"] * 72).verdict == "the other way"
    assert correlation(x, generator.normal(size=72), ["a"] * 72).verdict == "not shown"
    # the interval is a percentile bootstrap's: scipy's own, drawn otherwise
    theirs = stats.bootstrap(
        (x, y), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, n_resamples=2000, method="percentile",
        vectorized=False, rng=3,
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.03)


def test_a_relation_between_kinds_alone_is_none_within_them():
    generator = np.random.default_rng(3)
    kinds = np.repeat(np.arange(4), 18)
    x, y = (10 * kinds + generator.normal(size=72) for _ in range(2))
    found = correlation(x, y, list(map(str, kinds)))
    assert found.verdict == "predicts" and found.rho > 0.85 and found.p_within > 0.01


def test_too_few_numbers_are_no_correlation():
    assert correlation([1.0, 2.0], [1.0, 2.0], ["a", "a"]).verdict == "too few models"
