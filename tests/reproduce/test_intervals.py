"""Intervals against published values, scipy, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from mixerlens.reproduce.intervals import difference, pack, unpack, wilson


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (81, 263), (355, 360), (1, 2)])
def test_wilson_is_that_of_scipy(correct, total):
    theirs = binomtest(correct, total).proportion_ci(method="wilson")
    assert wilson(correct, total) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_which_examples_were_right_survive_packing():
    generator = np.random.default_rng(0)
    for total in (1, 7, 8, 9, 370):
        right = generator.random(total) < 0.5
        assert (unpack(pack(right), total) == right).all()


def test_the_difference_covers_the_truth_as_often_as_it_says():
    """Two models right with probability 0.8 and 0.7 on independent sets of 300, three seeds that agree by half."""
    generator, held = np.random.default_rng(1), 0
    for _ in range(400):
        rows = []
        for share in (0.8, 0.7):
            common, own, which = generator.random(300), generator.random((3, 300)), generator.random((3, 300)) < 0.5
            rows.append(np.where(which, common, own) < share)
        found = difference(*rows)
        held += found.low <= 0.1 <= found.high
    assert held / 400 >= 0.95


def test_verdicts_follow_the_interval():
    right, wrong = np.ones((3, 50), bool), np.zeros((3, 50), bool)
    mixed = np.arange(150).reshape(3, 50) % 2 == 0
    assert difference(right, wrong).verdict == "higher" and difference(wrong, right).verdict == "lower"
    assert difference(mixed, mixed[::-1]).verdict == "no difference"
    assert difference(right, mixed).mean == pytest.approx(0.5)
