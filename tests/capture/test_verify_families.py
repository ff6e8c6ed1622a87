"""`make verify-families`: the operator check of each family, the library's faults, and that it can fail."""

import json

import pytest
import torch

import mixerlens as ml
from capture import recurrent, tiny, verify_families
from capture.verify_families import FAULTS, Fault, check, main


@pytest.mark.parametrize("name", recurrent.FAMILIES)
def test_every_operator_is_within_the_bar_and_nothing_is_missed(name):
    row = check(name, checks=("operator",))
    assert row.problems == []
    assert 0 < row.operator_error <= 1e-5
    assert sum(row.mixers.values()) >= 2


@pytest.mark.parametrize("name", ["bamba", "rwkv", "recurrent_gemma", "xlstm", "mamba", "mamba2"])
def test_the_librarys_faults_are_found_and_no_others(name):
    row = check(name)
    assert row.problems == []
    assert len(row.faults) == sum(len(fault.variants) for fault in FAULTS.get(name, ()))


@pytest.mark.slow
def test_the_whole_command_holds(capsys):
    assert main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["family"] for row in rows] == list(recurrent.FAMILIES)
    assert all(row["ok"] and row["operator_error"] <= 1e-5 for row in rows)
    assert {row["family"] for row in rows if row["faults"]} == set(FAULTS)


def test_a_fault_that_is_not_known_or_not_found_fails(monkeypatch, capsys):
    monkeypatch.setitem(verify_families.FAULTS, "mamba2", (Fault("chunk", ("plain",), "made up"),))
    monkeypatch.delitem(verify_families.FAULTS, "falcon_mamba")
    assert main(["mamba2", "falcon_mamba"]) == 1
    told = capsys.readouterr().out
    assert "mamba2: the known fault in chunk/plain was not found" in told
    assert "falcon_mamba: unknown fault in chunk/plain" in told


def test_a_wrong_operator_fails(monkeypatch):
    build = tiny.stirred

    def twisted(name):
        model = build(name)
        scan = __import__(type(model).__module__, fromlist=["x"])
        plain = scan.mamba2_chunk_scan
        wrong = lambda *args, **kwargs: 1.001 * plain(*args, **kwargs)
        wrong.__signature__ = __import__("inspect").signature(plain)
        monkeypatch.setattr(scan, "mamba2_chunk_scan", wrong)
        return model

    monkeypatch.setattr(tiny, "stirred", twisted)
    row = check("mamba2", checks=("operator",))
    assert not row.ok
    assert row.operator_error > 1e-4
    assert row.problems[-1].startswith("operator error ")


def test_a_mixer_left_out_fails(monkeypatch):
    monkeypatch.delitem(verify_families.LEFT_OUT, "qwen4_exp")
    row = check("qwen4_exp", checks=("operator",))
    assert [problem.split(" ")[0] for problem in row.problems] == ["model.layers.1.ple.ple_embedding"]


def test_an_unknown_family_is_named(capsys):
    assert main(["mamba", "nonsense"]) == 2
    assert capsys.readouterr().err.startswith("unknown family nonsense: there are mamba, ")


def test_xlstm_steps_like_its_forward_where_its_cache_has_the_right_sizes():
    """The fault is in the sizes of small models: at multiples of 64 the cached decode is right."""
    model = tiny.stirred("xlstm", hidden_size=128, num_heads=2)
    found = ml.open(model).trace(tiny.ids()).verify()
    assert {(c.check, c.status) for c in found.checks if c.variant == "plain"} == {("step", "pass"), ("chunk", "pass")}
    assert torch.isfinite(torch.tensor([c.max_rel for c in found.checks if c.max_rel is not None])).all()
