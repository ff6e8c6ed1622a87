"""Intervals against scipy's own, and the share of cases that they cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mixerlens.sweep.intervals import Answers, of_difference, of_mean, p_of_difference, student


def alone(*counts):
    """Counts of sequences that are asked one answer each."""
    return [Answers(right, asked, asked, right * (asked - right) / asked) for right, asked in counts]


def test_student_is_scipys():
    values = [0.5, 0.7, 0.65, 0.9]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student(values) == pytest.approx(tuple(expected), rel=1e-12)
    assert student([0.5]) is None


def test_one_seed_has_wilsons_interval_and_several_never_a_narrower_one():
    wilson = stats.binomtest(80, 100).proportion_ci(0.95, "wilson")
    assert of_mean(alone((80, 100))) == pytest.approx((0.8, wilson.low, wilson.high), rel=1e-12)
    agreeing = of_mean(alone((80, 100), (80, 100)))
    pooled = stats.binomtest(160, 200).proportion_ci(0.95, "wilson")
    assert agreeing == pytest.approx((0.8, pooled.low, pooled.high), rel=1e-12)
    apart = of_mean(alone((60, 100), (70, 100), (95, 100)))
    expected = stats.ttest_1samp([0.6, 0.7, 0.95], 0).confidence_interval(0.95)
    assert apart == pytest.approx((0.75, expected.low, 1.0), rel=1e-12)


def test_perfect_runs_are_not_certain():
    mean, low, high = of_mean(alone((100, 100)) * 3)
    assert (mean, high) == (1.0, 1.0) and 0.98 < low < 1
    mean, low, high = of_difference(alone((100, 100)) * 3, alone((100, 100)) * 3)
    assert mean == 0 and low == pytest.approx(-high) and 0 < high < 0.02


def test_differences_are_paired_by_seed():
    ours, theirs = alone((90, 100), (50, 100), (70, 100)), alone((80, 100), (41, 100), (59, 100))
    mean, low, high = of_difference(ours, theirs)
    expected = stats.ttest_rel([0.9, 0.5, 0.7], [0.8, 0.41, 0.59]).confidence_interval(0.95)
    assert mean == pytest.approx(0.1)
    assert low <= expected.low < expected.high <= high  # and wide where the answers are few
    assert of_difference(theirs, ours) == pytest.approx((-mean, -high, -low))


def test_the_p_value_is_scipys_where_students_interval_is_the_wider_one():
    """So many answers that Newcombe's interval is a point beside Student's."""
    many = 10**9
    shares = [0.9, 0.5, 0.7], [0.8, 0.41, 0.62]
    ours, theirs = (alone(*((round(share * many), many) for share in side)) for side in shares)
    expected = stats.ttest_rel(*shares).pvalue
    assert p_of_difference(ours, theirs) == pytest.approx(expected, rel=2e-3)
    assert p_of_difference(theirs, ours) == pytest.approx(expected, rel=2e-3)
    assert p_of_difference(ours, ours) == 1


def test_the_p_value_of_one_seed_is_where_newcombes_interval_reaches_zero():
    ours, theirs = alone((56, 70)), alone((48, 80))
    p = p_of_difference(ours, theirs)
    assert 0.001 < p < 0.05  # the 95 % interval does not hold 0, the 99.9 % one does
    assert of_difference(ours, theirs, level=p * 1.01)[1] > 0 > of_difference(ours, theirs, level=p * 0.99)[1]


def test_newcombes_interval_of_the_published_example():
    # method 10 on 56/70 and 48/80: 0.0524 to 0.3339 (Newcombe 1998, table II, case a)
    assert of_difference(alone((56, 70)), alone((48, 80))) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        shares = np.clip(generator.normal(0.7, 0.05, 4), 0, 1)
        _, low, high = of_mean(alone(*((int(generator.binomial(500, share)), 500) for share in shares)))
        hits += low <= 0.7 <= high
    assert hits >= 372  # 95 % less two standard errors


def test_answers_count_what_every_sequence_was_asked_and_gave():
    each = [(3, 4), (0, 2), (0, 0), (5, 5)]
    found = Answers.of(each)
    p = 8 / 11
    assert found[:3] == (8, 11, 3)
    assert found.squares == pytest.approx(sum((r - p * a) ** 2 for r, a in each), rel=1e-14)
    assert Answers.of([(1, 1)] * 3 + [(0, 1)]) == Answers(3, 4, 4, 0.75)


def test_copies_of_one_answer_are_worth_one():
    """Every sequence asks eight times the same: the interval is that of one answer a sequence, and so where all are
    right."""
    rights = np.random.default_rng(2).random(60) < 0.7
    eight = Answers.of([(8 * int(right), 8) for right in rights])
    one = Answers.of([(int(right), 1) for right in rights])
    assert of_mean([eight]) == pytest.approx(of_mean([one]), rel=1e-12)
    assert of_difference([eight], alone((30, 60))) == pytest.approx(of_difference([one], alone((30, 60))), rel=1e-12)
    assert of_mean([Answers.of([(8, 8)] * 60)]) == pytest.approx(of_mean(alone((60, 60))), rel=1e-12)
    # answers that are even more alike over sequences than independent ones are worth no more than those
    assert of_mean([Answers.of([(4, 8)] * 60)]) == pytest.approx(of_mean(alone((240, 480))), rel=1e-12)


def test_one_seeds_interval_covers_where_the_answers_of_a_sequence_hang_together():
    """Each sequence has a share of its own, 8 answers and 200 sequences. Taken as 1600 answers, half as many cover."""
    generator, hits, naive, draws = np.random.default_rng(4), 0, 0, 500
    for _ in range(draws):
        rights = generator.binomial(8, generator.beta(0.35, 0.15, 200))
        _, low, high = of_mean([Answers.of([(int(right), 8) for right in rights])])
        hits += low <= 0.7 <= high
        _, low, high = of_mean(alone((int(rights.sum()), 1600)))
        naive += low <= 0.7 <= high
    assert hits / draws >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / draws) and naive / draws < 0.75


def crossed(generator, seeds, examples, seed, example, own, middle=1.0):
    """Right answers (seeds, examples) of a model: normal parts of the seed, of the example, and of both together; and
    the accuracy over all seeds and examples there could be."""
    parts = seed * generator.normal(size=(seeds, 1)) + own * generator.normal(size=(seeds, examples))
    right = middle + parts + example * generator.normal(size=examples) > 0
    return right, stats.norm.cdf(middle / np.sqrt(seed**2 + example**2 + own**2))


def counted(right):
    return alone(*((int(row.sum()), row.size) for row in right))


@pytest.mark.parametrize(
    ("seeds", "parts"),
    [(5, (0.05, 1.0, 0.1)), (3, (0.05, 1.0, 0.3)), (3, (0.3, 1.0, 0.3)), (3, (0.3, 0.1, 1.0)), (2, (0.1, 1.0, 0.3))],
)
def test_a_test_set_that_all_seeds_share_is_counted_once(seeds, parts):
    """Examples that are hard for one seed are hard for all: seeds agree, and the set may be an easy one."""
    generator, covered, draws = np.random.default_rng(6), 0, 2000
    for _ in range(draws):
        right, truth = crossed(generator, seeds, 360, *parts)
        _, low, high = of_mean(counted(right), shared=360)
        covered += low <= truth <= high
    assert covered / draws >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / draws)


def test_answers_taken_as_each_seeds_own_cover_far_too_little_where_the_set_is_shared():
    generator, naive, right_ones, draws = np.random.default_rng(7), 0, 0, 400
    for _ in range(draws):
        right, truth = crossed(generator, 5, 100, 0.05, 1.0, 0.1)
        for shared in (None, 100):
            _, low, high = of_mean(counted(right), shared)
            naive += (low <= truth <= high) * (shared is None)
            right_ones += (low <= truth <= high) * (shared is not None)
    assert naive / draws < 0.75 and right_ones / draws >= 0.93


def test_the_difference_of_two_models_on_a_shared_set_covers_nothing_where_they_are_alike():
    """Half of what makes an example hard is the same for both."""
    generator, naive, covered, draws = np.random.default_rng(8), 0, 0, 400
    for _ in range(draws):
        common = np.sqrt(0.5) * generator.normal(size=360)
        ours, theirs = (counted(crossed(generator, 5, 360, 0.05, np.sqrt(0.5), 0.1, 1.0 + common)[0]) for _ in range(2))
        _, low, high = of_difference(ours, theirs, shared=360)
        covered += low <= 0 <= high
        _, low, high = of_difference(ours, theirs)
        naive += low <= 0 <= high
    assert covered / draws >= 0.93 and naive / draws < 0.85


def test_seeds_that_are_asked_random_parts_of_one_set_are_covered_too():
    generator, covered, draws = np.random.default_rng(9), 0, 400
    for _ in range(draws):
        right, truth = crossed(generator, 4, 300, 0.05, 1.0, 0.1)
        parts = [row[generator.permutation(300)[:200]] for row in right]
        _, low, high = of_mean(counted(parts), shared=300)
        covered += low <= truth <= high
    assert covered / draws >= 0.93


def test_a_shared_sets_interval_is_wilsons_where_seeds_agree_and_the_two_sides_squared_where_they_differ():
    wilson = stats.binomtest(80, 100).proportion_ci(0.95, "wilson")
    expected = (0.8, wilson.low, wilson.high)
    assert of_mean(alone((80, 100), (80, 100), (80, 100)), shared=100) == pytest.approx(expected, rel=1e-12)
    assert of_mean(alone((80, 100)), shared=100) == pytest.approx(expected, rel=1e-12)
    assert of_mean(alone((80, 100)), shared=500) == pytest.approx(expected, rel=1e-12)  # one seed saw 100 of them
    student = stats.ttest_1samp([0.79, 0.8, 0.81], 0).confidence_interval(0.95)
    _, low, high = of_mean(alone((79, 100), (80, 100), (81, 100)), shared=100)
    assert low == pytest.approx(0.8 - np.hypot(0.8 - student.low, 0.8 - wilson.low), rel=1e-12)
    assert high == pytest.approx(0.8 + np.hypot(student.high - 0.8, wilson.high - 0.8), rel=1e-12)
