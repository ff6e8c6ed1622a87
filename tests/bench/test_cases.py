"""Every case at its tiny size: all ways that are installed agree with the float64 reference, and give what bars ask."""

from __future__ import annotations

import pytest
import torch

from bench import gate, measure, views
from bench.cases import CASES, delta
from bench.cases.growth import delta_dynamics
from bench.cases.long import GATES, mamba_dynamics
from mixerlens.operator.streams import walk

# the peer that only `make bench` installs, and what needs a C compiler; everything else must be here
OPTIONAL = {"TransformerLens", "mixerlens, C"}
WEIGHTS = ("demo-smollm",)  # what needs a download


@pytest.mark.parametrize("name", CASES)
def test_the_gate_is_green_and_every_bar_gets_its_value(name, memory):
    row = measure.run(CASES[name], True, memory, lambda what: None)
    broken = {way: found["failure"] for way, found in row["contenders"].items() if "failure" in found}
    assert broken == {}
    assert row["status"] == "green"
    missing = {way for way, found in row["contenders"].items() if "missing" in found}
    assert missing <= OPTIONAL or name in WEIGHTS
    for bar in row["bars"]:
        assert missing & {bar["ours"], bar["against"]} or isinstance(bar["value"], float), bar


@pytest.mark.parametrize("name", CASES)
def test_bars_speak_of_ways_that_exist(name):
    ways = {c.name for c in CASES[name].contenders}
    for bar in CASES[name].bars:
        assert bar.ours in ways
        assert bar.against in ways | {""}
        assert (bar.against != "") == (bar.measure in ("speed", "memory", "units", "excess"))


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.size and not case.contenders[0].checks])
def test_a_case_can_tell_a_wrong_answer(name):
    """Outputs that are off by one part in a hundred do not pass for any way of any case."""
    case = CASES[name]
    for way in case.contenders:
        if way.name in OPTIONAL:
            continue
        reference = (way.reference or case.reference)(gate.inputs(case, case.quick))
        assert all(torch.isfinite(x).any() and float(x.abs().nan_to_num().max()) > 0 for x in reference)
        assert gate.error(tuple(1.01 * x for x in reference), reference) > way.tolerance


def test_no_way_of_ours_may_be_further_off_than_float32_allows():
    """Whole models aside, whose own float32 is compared."""
    for name, case in CASES.items():
        for way in case.contenders:
            if not (way.peer or way.checks or name.startswith(("trace", "accelerate", "import"))):
                assert way.tolerance <= 1e-6, (name, way.name)


# every figure that is promised: case, measure, whose, bound, against whom
PROMISED = {
    ("mamba1-forward", "speed", "mixerlens", 8, "transformers"),
    ("mamba1-forward", "speed", "mixerlens", 14, "mambapy"),
    ("mamba1-forward", "memory", "mixerlens", 50, "transformers"),
    ("mamba1-forward", "memory", "mixerlens", 50, "mambapy"),
    ("mamba1-forward", "share", "mixerlens", 0.20, ""),
    ("mamba1-forward", "share", "mixerlens, C", 0.45, ""),
    ("mamba1-backward-256", "speed", "mixerlens", 200, "transformers"),
    ("mamba1-backward-1024", "speed", "mixerlens", 15, "mambapy"),
    ("mamba2-forward-2048", "speed", "mixerlens", 5, "transformers"),
    ("mamba2-forward-8192", "speed", "mixerlens", 12, "transformers"),
    ("delta-coefficients", "speed", "mixerlens", 14, "full triangular solve"),
    ("delta-backward", "speed", "mixerlens", 15, "naive loop, x[:, t] slices (transformers)"),
    ("s4d-kernel", "speed", "mixerlens", 60, "complex exponentials"),
    ("s4d-backward", "speed", "mixerlens", 7, "plain S4D"),
    *(("attention-linear", "units", view, 4, "one forward") for view in list(views.LINEAR)[:3]),
    ("attention-statistics", "speed", "mixerlens", 70, "TransformerLens"),
    ("attention-statistics", "MiB", "mixerlens", 1024, ""),
    *(("long-mamba1", "seconds", f"skipping, {which} step", 1.5, "") for which in ("median", "smallest")),
    *(("long-mamba1", "MiB", f"skipping, {which} step", 1024, "") for which in ("median", "smallest")),
    ("long-delta", "seconds", "skipping", 15, ""),
    ("long-delta", "MiB", "skipping", 1024, ""),
    *((f"growth-{mixer}", "exponent", "scan, forward + backward", 1.1, "") for mixer in ("mamba1", "mamba2", "delta")),
    *(
        (f"growth-{mixer}", "exponent", view, 1.1, "")
        for mixer in ("mamba1", "mamba2", "delta")
        for view in ("scan, forward", *views.LINEAR)
    ),
    *((f"trace-{k}", "units", "mixerlens", 1.3, "plain forward") for k in ("llama", "mamba", "mamba2", "qwen3_next")),
    *((f"explain-{time}", "units", way, bound, "one forward")
      for time in (784, 16384) for way, bound in (("gate form", 2), ("pairs of 32 waves", 40))),
    ("import", "excess", "mixerlens", 1, "import torch"),
    ("demo-smollm", "seconds", "mixerlens", 120, ""),
}  # fmt: skip

LONG = {"mamba": mamba_dynamics, "delta": delta_dynamics}


def test_every_promise_is_a_bar():
    bars = {(n, b.measure, b.ours, b.bound, b.against) for n, case in CASES.items() for b in case.bars}
    assert {bar for bar in bars if bar[3] is not None} == PROMISED


def test_the_long_gates_walk_over_several_blocks_and_leave_tiles_out():
    """The median step and the delta head leave out some; the smallest step's rows meet every block there is."""
    for name, way, kind, leaves in (
        ("long-mamba1", "skipping, median step", "mamba", True),
        ("long-mamba1", "skipping, smallest step", "mamba", False),
        ("long-delta", "skipping", "delta", True),
    ):
        case, time = CASES[name], GATES[kind]
        assert case.gate is not None and case.gate["time"] == time
        contender = case.contender(way)
        given = contender.prepare(gate.inputs(case, case.gate))
        assert time > 2 * walk.length(LONG[kind](given)) and time % walk.length(LONG[kind](given))
        row = contender.run(given)[0]
        assert row.value.shape[1] == time
        assert bool((row.missing > 0).any()) is leaves, way


@pytest.mark.parametrize("columns", [7, 40, 64])
def test_the_statistics_by_columns_are_those_of_the_matrix(columns):
    given = gate.inputs(CASES["long-delta"], {"batch": 1, "time": 40, "heads": 1, "dim": 4})
    named = {name: given[name] for name in delta.COEFFICIENTS}
    dense = views.dense_statistics(views.alpha("gated_delta_net", named, 40, 1))
    assert gate.error(views.exact_statistics("gated_delta_net", named, 40, columns), dense) < 1e-14
