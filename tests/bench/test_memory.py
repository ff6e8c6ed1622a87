"""The memory process, on ways whose memory is known."""

from __future__ import annotations

import contextlib

import pytest

from bench.cases import CASES
from bench.memory import Server


@pytest.fixture(scope="module")
def server():
    with Server(1) as started:
        yield started


def test_a_large_temporary_is_seen_and_belongs_to_its_own_way(server):
    """One complex exponential an entry holds features x modes x time complex numbers; the short way holds no such."""
    case, size = CASES["s4d-kernel"], {"batch": 1, "time": 4096, "features": 64, "modes": 32}
    table = 64 * 32 * 4096 * 8
    dense = server.peak(case, "complex exponentials", size)
    ours = server.peak(case, "mixerlens", size)
    again = server.peak(case, "complex exponentials", size)
    assert table <= dense["peak"] <= 4 * table
    assert ours["peak"] < table / 2
    assert abs(again["peak"] - dense["peak"]) < table / 10  # each request starts from the same process
    assert dense["result"] == 64 * 4096 * 4


def test_a_process_that_was_ended_is_started_again(server):
    case = CASES["s4d-kernel"]
    server.peak(case, "mixerlens", case.quick)
    server._process.kill()
    with contextlib.suppress(RuntimeError):  # one request may be lost
        server.peak(case, "mixerlens", case.quick)
    assert server.peak(case, "mixerlens", case.quick)["peak"] >= 0


def test_a_request_that_breaks_says_why_and_the_next_is_answered(server):
    case = CASES["s4d-kernel"]
    with pytest.raises(RuntimeError, match="KeyError"):
        server.peak(case, "mixerlens", {"time": 8})
    assert server.peak(case, "mixerlens", case.quick)["peak"] >= 0
