"""Every case at its tiny size: all ways that are installed agree with the float64 reference, and give what bars ask."""

from __future__ import annotations

import pytest
import torch

from bench import gate, measure
from bench.cases import CASES

# the peer that only `make bench` installs, and what needs a C compiler; everything else must be here
OPTIONAL = {"TransformerLens", "mixerlens, C"}


@pytest.mark.parametrize("name", CASES)
def test_the_gate_is_green_and_every_bar_gets_its_value(name, memory):
    row = measure.run(CASES[name], True, memory, lambda what: None)
    broken = {way: found["failure"] for way, found in row["contenders"].items() if "failure" in found}
    assert broken == {}
    assert row["status"] == "green"
    missing = {way for way, found in row["contenders"].items() if "missing" in found}
    assert missing <= OPTIONAL
    for bar in row["bars"]:
        assert missing & {bar["ours"], bar["against"]} or isinstance(bar["value"], float), bar


@pytest.mark.parametrize("name", CASES)
def test_bars_speak_of_ways_that_exist(name):
    ways = {c.name for c in CASES[name].contenders}
    for bar in CASES[name].bars:
        assert bar.ours in ways
        assert bar.against in ways | {""}
        assert (bar.against != "") == (bar.measure in ("speed", "memory", "units", "excess"))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.size])
def test_a_case_can_tell_a_wrong_answer(name):
    """Outputs that are off by one part in a hundred do not pass for any way of any case."""
    case = CASES[name]
    for way in case.contenders:
        if way.name in OPTIONAL:
            continue
        reference = (way.reference or case.reference)(gate.inputs(case, case.quick))
        assert all(torch.isfinite(x).any() and float(x.abs().nan_to_num().max()) > 0 for x in reference)
        assert gate.error(tuple(1.01 * x for x in reference), reference) > way.tolerance
