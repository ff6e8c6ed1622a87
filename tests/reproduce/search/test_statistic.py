"""The score, the choice and the comparison, on made-up numbers and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mixerlens.reproduce.search.statistic import best, compared, score, succeeded


def test_the_score_is_0_for_guessing_and_1_for_all_right():
    assert score({"a": (0.5, 0.5), "b": (0.125, 0.125)}) == 0
    assert score({"a": (1.0, 0.5), "b": (1.0, 0.125)}) == 1
    assert score({"a": (0.75, 0.5), "b": (0.125, 0.125)}) == pytest.approx(0.25)
    assert score({"a": (0.25, 0.5)}) == pytest.approx(-0.5)  # worse than guessing


def test_the_best_are_the_highest_means_and_of_equals_the_first():
    scores = {"a": [0.2, 0.4], "b": [0.9, 0.1], "c": [0.6, 0.2], "d": [0.4, 0.4], "e": [1.0, 0.1]}
    assert best(scores, 3) == ["e", "b", "c"]
    assert best({name: [0.5] for name in "xyz"}, 2) == ["x", "y"]


def test_intervals_and_p_are_scipys_paired_test_with_holm():
    generator = np.random.default_rng(0)
    ours = generator.normal(0.7, 0.02, 5).tolist()
    theirs = {name: generator.normal(mean, 0.02, 5).tolist() for name, mean in (("a", 0.6), ("b", 0.67), ("c", 0.7))}
    found = {each.family: each for each in compared(ours, theirs)}
    expected = {name: stats.ttest_rel(ours, each) for name, each in theirs.items()}
    for name, theory in expected.items():
        low, high = theory.confidence_interval()
        each = found[name].difference
        assert (each.low, each.high, each.p) == pytest.approx((low, high, theory.pvalue), rel=1e-9)
    p = sorted(theory.pvalue for theory in expected.values())
    step_down = np.minimum(1, np.maximum.accumulate(np.array([3, 2, 1]) * p))
    assert sorted(each.p for each in found.values()) == pytest.approx(list(step_down), rel=1e-9)


def test_a_family_is_beaten_only_if_all_seeds_together_say_so():
    ours = [0.80, 0.81, 0.79, 0.82, 0.80]
    far, near, above = ([x + d for x in ours] for d in (-0.30, -0.001, 0.2))
    noise = [0.003, -0.004, 0.005, -0.003, 0.001]
    families = {
        "far": list(np.add(far, noise)),
        "near": list(np.add(near, noise[::-1])),
        "above": list(np.add(above, noise)),
    }
    found = compared(ours, families)
    assert [each.verdict for each in found] == ["beaten", "undecided", "better than the candidate"]
    assert not succeeded(found) and succeeded(found[:1]) and not succeeded([])
    assert succeeded(compared(ours, {"far": families["far"], "further": [x - 0.1 for x in families["far"]]}))


def test_what_counts_alone_may_not_count_among_many():
    """One difference with p of 0.03 beats its family alone; among four families it does not."""
    ours = [0.0] * 5
    shape = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    shift = stats.t.isf(0.015, 4) * shape.std(ddof=1) / np.sqrt(5)
    theirs = (-(shape + shift)).tolist()
    assert compared(ours, {"a": theirs})[0].verdict == "beaten"
    alike = {name: list(theirs) for name in "abcd"}
    assert compared(ours, alike)[0].p == pytest.approx(4 * 0.03)
    assert {each.verdict for each in compared(ours, alike)} == {"undecided"}


def test_no_difference_and_one_seed():
    assert compared([0.5, 0.6], {"same": [0.5, 0.6]})[0].verdict == "undecided"
    with pytest.raises(ValueError, match="one seed"):
        compared([0.5], {"a": [0.4]})


def test_equals_are_rarely_told_apart():
    """Where the candidate is like its three families, one of twenty searches at most beats any of them."""
    generator = np.random.default_rng(1)
    beaten = 0
    for _ in range(400):
        scores = generator.normal(0.7, 0.05, (4, 5)).tolist()
        found = compared(scores[0], dict(zip("abc", scores[1:], strict=True)))
        beaten += any(each.verdict == "beaten" for each in found)
    assert beaten / 400 <= 0.05
