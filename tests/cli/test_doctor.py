"""``mixerlens doctor``: which path is active and why, and what it says when the two differ."""

from __future__ import annotations

import json

import pytest

from mixerlens import native
from mixerlens.native import check


def test_off_is_no_failure_and_says_why(mixerlens, monkeypatch):
    monkeypatch.setenv(native.SWITCH, "0")
    result = mixerlens("doctor", "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == 0 and said["check"] == []
    assert said["native"]["active"] is False and said["native"]["reason"] == "MIXERLENS_NATIVE=0"
    assert set(said["paths"].values()) == {"torch"}
    assert said["packages"]["torch"] and said["threads"] == 1 and said["memory_budget"] > 0
    assert "MIXERLENS_NATIVE=0" in mixerlens("doctor").stdout


@pytest.fixture
def active(monkeypatch):
    status = native.status()
    if not status.active:
        pytest.skip(f"no C path: {status.reason}")
    return status


def test_on_compares_the_paths(mixerlens, active):
    result = mixerlens("doctor", "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == 0 and said["paths"]["selective_scan"] == "C"
    assert said["native"]["library"] == active.library
    assert [row["dtype"] for row in said["check"]] == ["float32", "float64"]
    assert all(0 < row["outputs"] < row["bar"] and 0 < row["gradients"] < row["bar"] for row in said["check"])


@pytest.mark.parametrize("wrong", [1 + 1e-4, float("nan")])
def test_paths_that_differ_are_a_failure(mixerlens, active, monkeypatch, wrong):
    from mixerlens.scans import mamba

    right = native.forward
    monkeypatch.setattr(mamba.native, "forward", lambda *a, **k: (right(*a, **k)[0] * wrong, *right(*a, **k)[1:]))
    result = mixerlens("doctor")
    assert result.exit_code == 1
    assert "FAILED: the two paths differ in float32, float64" in result.stdout
    assert check.differences()[0].holds is False
