"""The command line on the shipped models: what holds, and the one fault of the library that does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SPECIMENS = Path(__file__).resolve().parents[2] / "specimens"


def verify(mixerlens, name: str, *options) -> tuple[int, list[dict]]:
    result = mixerlens("verify", SPECIMENS / name, *options, "--json")
    assert result.stderr == ""
    return result.exit_code, json.loads(result.stdout)["checks"]


@pytest.mark.parametrize("name", ["qwen3-next-bytes", "digits-s4d"])
def test_models_that_are_right(name, mixerlens):
    code, checks = verify(mixerlens, name)
    assert code == 0 and {check["status"] for check in checks} <= {"pass", "n/a"}
    errors = [check["max_rel"] for check in checks if check["check"] == "operator"]
    assert errors and max(errors) <= 1e-5
    assert all(check["tolerance"] <= 1e-5 for check in checks if check["check"] == "operator")


@pytest.mark.parametrize("name", ["qwen3-next-bytes", "digits-s4d", "jamba-bytes"])
def test_operators_in_float64_against_plain_loops(name, mixerlens):
    _, checks = verify(mixerlens, name, "--checks", "operator", "--dtype", "float64")
    loops = [check for check in checks if check["variant"] != "model"]
    assert max(check["max_rel"] for check in loops) <= 1e-11
    sums = {"token-by-token sum"} if name != "digits-s4d" else set()  # the others have attention layers too
    assert {check["variant"] for check in loops} == {"recurrence"} | sums


def test_jamba_fails_in_chunks_alone(mixerlens):
    """transformers restarts the state of Mamba-1 when several tokens continue a cache."""
    text = (SPECIMENS / "text" / "held-out.txt").read_text(encoding="utf-8")[:200]
    code, checks = verify(mixerlens, "jamba-bytes", "--text", text)
    assert code == 1 and {check["check"] for check in checks if check["status"] == "fail"} == {"chunk"}
    assert max(check["max_rel"] for check in checks if check["check"] == "chunk") > 1e-3


def test_a_uniform_mean_that_rounding_alone_tells_apart_is_told_once(mixerlens):
    """63 / 4 for every mixer, summed in another order by each: 15.7 and 15.8 to three digits."""
    result = mixerlens("horizon", SPECIMENS / "jamba-bytes", "--length", 64, "--layers", "1-2")
    assert "a mean distance of 15.8." in result.stdout
