"""Interleaving, medians and exponents on clocks and numbers that are known."""

from __future__ import annotations

import pytest

from bench import timing


class Clock:
    """Time passes only in the calls."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def call(self, name, *seconds):
        costs = iter(seconds)
        last = seconds[-1]

        def run():
            self.order.append(name)
            self.now += next(costs, last)

        return run


def test_the_ways_take_turns():
    clock = Clock()
    samples = timing.interleaved({"a": clock.call("a", 1.0), "b": clock.call("b", 2.0)}, 0.0, 3, clock=clock)
    assert clock.order == ["a", "b"] * 3
    assert samples == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_a_fast_way_is_called_more_often_in_its_turn():
    clock = Clock()
    fast = timing.SAMPLE / 8
    assert timing.SAMPLE < 1.0
    samples = timing.interleaved(
        {"slow": clock.call("slow", 1.0), "fast": clock.call("fast", fast)}, 0.0, 2, clock=clock
    )
    assert len(samples["slow"]) == 2
    assert 6 * 2 <= len(samples["fast"]) <= 8 * 2


def test_rounds_go_on_while_there_is_time():
    clock = Clock()
    samples = timing.interleaved({"a": clock.call("a", 1.0)}, 6.5, 3, clock=clock)
    assert len(samples["a"]) == 7


def test_slow_ways_have_three_rounds_and_all_others_five():
    clock = Clock()
    ways = {"quick": clock.call("quick", 1.9), "slow": clock.call("slow", 2.1), "once": clock.call("once", 0.001)}
    samples = timing.interleaved(ways, 0.0, once=["once"], clock=clock)
    assert {name: len(found) for name, found in samples.items()} == {"quick": 5, "slow": 3, "once": 1}
    assert clock.order == ["quick", "slow", "once"] + ["quick", "slow"] * 2 + ["quick"] * 2


def test_where_all_ways_are_slow_the_budget_is_not_waited_for():
    clock = Clock()
    samples = timing.interleaved({"a": clock.call("a", 2.5)}, 1e9, clock=clock)
    assert len(samples["a"]) == 3


def test_median_and_quartiles():
    found = timing.summary([5.0, 1.0, 2.0, 4.0, 3.0])
    assert found == {"median": 3.0, "low": 2.0, "high": 4.0, "min": 1.0, "max": 5.0, "count": 5}
    assert timing.summary([2.0])["low"] == timing.summary([2.0])["high"] == 2.0


@pytest.mark.parametrize("slope", [0.0, 1.0, 1.37, 2.0])
def test_the_exponent_of_a_power(slope):
    lengths = [4096, 8192, 16384, 131072]
    assert timing.exponent(lengths, [3e-7 * n**slope for n in lengths]) == pytest.approx(slope, abs=1e-12)


def test_the_last_step_is_the_slope_of_the_two_longest():
    assert timing.last_slope([1, 2, 4, 8], [1.0, 1.0, 1.0, 8.0]) == pytest.approx(3.0)


def test_the_exponent_is_a_least_squares_slope():
    """Four points of L^1 with one doubled: the slope of the fit, worked out by hand."""
    lengths, seconds = [1, 2, 4, 8], [1.0, 2.0, 4.0, 16.0]
    # residual log2 2 at the last of x = 0 1 2 3: sum (x - 1.5) r / sum (x - 1.5)^2 = 1.5 / 5
    assert timing.exponent(lengths, seconds) == pytest.approx(1.3)


def test_extrapolation_follows_the_fit_from_the_longest():
    assert timing.extrapolate([10, 20, 40], [1.0, 4.0, 16.0], 80) == pytest.approx(64.0)
