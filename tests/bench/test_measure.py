"""A row of the table: the gate before everything, what is missing, and the bars."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import import_module

import pytest
import torch

from bench import gate, measure
from bench.case import Bar, Case, Contender


def run(case, memory, quick=False):
    said = []
    return measure.run(case, quick, memory, said.append), said


def test_a_green_row_has_times_memory_and_verdicts(make_case, memory):
    row, said = run(make_case(seconds=0.01), memory)
    assert row["status"] == "green"
    assert said == ["gate", "timing", "memory"]
    assert set(row["contenders"]) == {"mixerlens", "peer"}
    for way in row["contenders"].values():
        assert 0 < way["seconds"]["low"] <= way["seconds"]["median"] <= way["seconds"]["high"]
        assert way["error"] <= 1e-7
    speed, space = row["bars"]
    ours, peer = (row["contenders"][name]["seconds"]["median"] for name in ("mixerlens", "peer"))
    assert speed["value"] == pytest.approx(peer / ours)
    assert speed["met"] is (peer / ours >= 0.5)
    assert space["value"] == pytest.approx(56 / 2)  # beyond the result, which both have to hold
    assert space["met"] is True


def test_a_wrong_way_makes_the_row_red_and_nothing_is_timed(make_case, memory):
    row, said = run(make_case(wrong=0.01), memory)
    assert row["status"] == "red"
    assert said == ["gate"]
    assert memory.asked == []
    assert row["contenders"]["peer"]["error"] == pytest.approx(0.01, rel=1e-3)
    assert not any("seconds" in way or "bytes" in way for way in row["contenders"].values())
    assert [bar["value"] for bar in row["bars"]] == [None, None]


def test_the_tolerance_decides(make_case, memory):
    assert run(make_case(wrong=0.9e-3), memory)[0]["status"] == "green"
    assert run(make_case(wrong=1.1e-3), memory)[0]["status"] == "red"


def test_a_way_that_breaks_is_red_with_its_reason_in_one_line(make_case, memory):
    row, _ = run(make_case(breaks=True), memory)
    assert row["status"] == "red"
    assert row["contenders"]["peer"]["failure"] == "RuntimeError: no such kernel"


def test_a_peer_that_is_not_installed_is_said_to_be_missing(make_case, memory):
    row, _ = run(make_case(needs=("no_such_package.of_ours",), breaks=True, seconds=0.01), memory)
    assert row["status"] == "green"
    assert row["contenders"]["peer"] == {"peer": True, "native": False, "missing": "no_such_package"}
    assert row["bars"][0]["value"] is None
    assert row["bars"][0]["met"] is None


def test_a_quick_run_judges_nothing(make_case, memory):
    row, _ = run(make_case(), memory, quick=True)
    assert row["size"] == {"time": 8}
    assert row["bars"][0]["value"] > 0
    assert row["bars"][0]["met"] is None


def test_growth_is_fitted_over_the_lengths(make_case, memory):
    case = make_case(lengths=(64, 128, 256), seconds=0.01, bars=(Bar("exponent", "mixerlens", 5),))
    row, _ = run(case, memory)
    way = row["contenders"]["mixerlens"]
    assert list(way["by_length"]) == ["64", "128", "256"]
    assert row["bars"][0]["value"] == way["exponent"]
    longest = [math.log(way["by_length"][n]["median"]) for n in ("128", "256")]
    assert way["last_slope"] == pytest.approx((longest[1] - longest[0]) / math.log(2))
    assert ("squares", "mixerlens", {"time": 256}) in memory.asked


def test_a_way_that_does_not_reach_the_length_is_extrapolated_and_said_to_be(memory):
    held = []

    def fits(size):
        held.append(size["time"])
        return 0 if size["time"] <= 16 else math.inf

    ladder = Contender("peer", lambda given: given["x"] * 1, ladder=(4, 8, 16, 32, 128), fits=fits)
    case = Case(
        name="copy", title="Copy", make=lambda size: {"x": torch.randn(size["time"])}, size={"time": 64},
        quick={"time": 64}, contenders=(Contender("mixerlens", lambda given: given["x"] * 1), ladder),
        reference=lambda given: (given["x"],), bars=(Bar("speed", "mixerlens", 1, "peer"),), seconds=0.01,
    )  # fmt: skip
    row, _ = run(case, memory)
    way = row["contenders"]["peer"]
    assert held == [32, 16]  # what is longer than the case is no candidate; what is shorter than one that fits, fits
    assert list(way["by_length"]) == ["4", "8", "16"]
    assert way["measured_at"] == 16
    assert way["extrapolated"] == pytest.approx(way["seconds"]["median"] * 4 ** way["exponent"])
    ours = row["contenders"]["mixerlens"]["seconds"]["median"]
    assert row["bars"][0]["value"] == pytest.approx(way["extrapolated"] / ours)
    assert ("copy", "peer", {"time": 16}) in memory.asked


def test_flops_are_compared_with_the_machines_product(make_case, memory):
    case = make_case(flops=lambda size: 1e6 * size["time"], flops_note="made up", seconds=0.01)
    way = run(case, memory)[0]["contenders"]["mixerlens"]
    rate = 32e6 / way["seconds"]["median"]
    assert 1e9 < rate / way["share"] < 1e13  # the product's flops a second
    assert "multiply_add_share" not in way
    case = replace(case, multiply_adds=lambda size: 0.25e6 * size["time"])
    way = run(case, memory)[0]["contenders"]["mixerlens"]
    assert way["multiply_add_share"] == pytest.approx(way["share"] / 4)


def test_a_value_without_a_bound_is_shown_and_not_judged():
    found = measure.judge(Bar("speed", "mixerlens", None, "peer"), WAYS)
    assert found["value"] == pytest.approx(4.5)
    assert found["met"] is None


def test_a_way_that_checks_itself_has_no_gate_and_one_call(make_case, memory):
    calls = []

    def whole(given):
        calls.append(given["x"].shape)
        return ()

    way = Contender("mixerlens", whole, once=True, checks=True)
    case = make_case(memory=False, seconds=0.01, bars=(Bar("seconds", "mixerlens", 60),))
    row, _ = run(replace(case, contenders=(way,)), memory)
    assert calls == [(32,)]
    assert "error" not in row["contenders"]["mixerlens"]
    assert row["contenders"]["mixerlens"]["seconds"]["count"] == 1
    assert row["bars"][0]["met"] is True


def test_the_memory_of_slow_ways_is_measured_only_for_a_bar(make_case, memory, monkeypatch):
    monkeypatch.setattr(measure, "LONG", 0.0)
    row, _ = run(make_case(seconds=0.01, bars=(Bar("MiB", "mixerlens", 100),)), memory)
    assert [name for _, name, _ in memory.asked] == ["mixerlens"]
    assert "bytes" not in row["contenders"]["peer"]
    assert row["bars"][0]["met"] is True


def test_of_the_lengths_that_fit_the_longest_its_half_and_its_quarter_are_measured():
    way = Contender("peer", lambda given: given, fits=lambda size: 0)
    case = Case("c", "C", lambda size: {}, {"time": 512}, {"time": 512}, (way,), lambda given: ())
    ladder = (16, 24, 32, 48, 64, 96, 128, 160)
    assert measure._rungs(case, way, {"time": 512}, ladder) == (32, 64, 160)
    assert measure._rungs(case, way, {"time": 140}, ladder) == (32, 64, 128)
    nothing = replace(way, fits=lambda size: math.inf)
    assert measure._rungs(case, nothing, {"time": 512}, ladder) == ()


WAYS = {
    "mixerlens": {
        "seconds": {"median": 2.0},
        "bytes": {"peak": 30 << 20, "result": 10 << 20},
        "share": 0.3,
        "exponent": 1.2,
    },
    "peer": {"seconds": {"median": 9.0}, "bytes": {"peak": 410 << 20, "result": 10 << 20}},
}


@pytest.mark.parametrize(
    ("measure_", "against", "value", "least"),
    [
        ("speed", "peer", 4.5, True), ("memory", "peer", 20.0, True), ("units", "peer", 2 / 9, False),
        ("share", "", 0.3, True), ("seconds", "", 2.0, False), ("MiB", "", 30.0, False),
        ("exponent", "", 1.2, False), ("excess", "peer", -7.0, False),
    ],
)  # fmt: skip
def test_the_value_of_a_bar_and_its_direction(measure_, against, value, least):
    for bound, met in ((value - 0.01, least), (value + 0.01, not least)):
        found = measure.judge(Bar(measure_, "mixerlens", bound, against), WAYS)
        assert found["value"] == pytest.approx(value)
        assert found["met"] is met


def test_errors_are_relative_to_the_largest_entry_and_a_nan_is_infinitely_wrong():
    exact = (torch.tensor([1.0, -4.0], dtype=torch.float64),)
    assert gate.error((torch.tensor([1.5, -4.0]),), exact) == pytest.approx(0.125)
    assert gate.error((torch.tensor([1.0, float("nan")]),), exact) == math.inf
    with pytest.raises(ValueError, match="shape"):
        gate.error((torch.zeros(3),), exact)
    with pytest.raises(ValueError, match="2 outputs"):
        gate.error((torch.zeros(2), torch.zeros(2)), exact)


def test_everybody_gets_the_same_inputs(make_case):
    case = make_case()
    first, again = (gate.inputs(case, {"time": 5})["x"] for _ in range(2))
    assert torch.equal(first, again)


def test_only_the_way_that_is_named_so_uses_the_c_library(monkeypatch):
    """And where it is off, that way is said to be missing, with the reason."""
    library, seen = object(), []
    module = import_module("mixerlens.native.library")  # the package has a function of that name
    monkeypatch.setattr(module, "_found", library)
    monkeypatch.setattr(module, "Library", object)
    monkeypatch.delenv("MIXERLENS_NATIVE", raising=False)

    def run(given):
        from mixerlens import native

        seen.append(native.library())

    Contender("mixerlens", run).call({})
    Contender("mixerlens, C", run, native=True).call({})
    assert seen == [None, library]
    monkeypatch.setenv("MIXERLENS_NATIVE", "0")
    assert Contender("mixerlens, C", run, native=True).lacking == "MIXERLENS_NATIVE=0"
    assert Contender("mixerlens", run).lacking is None
