"""``mixerlens design``: families as specifications, files, the check and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mixerlens.design import PRESETS, ModelConfig, SequenceModel, from_text, preset, save
from mixerlens.design.parts import SLOTS


def test_every_family_is_listed(mixerlens):
    result = mixerlens("design", "list", "--json")
    assert result.exit_code == 0
    assert [row["name"] for row in json.loads(result.stdout)] == list(PRESETS)
    assert "gated_delta_net" in mixerlens("design", "list").stdout


def test_every_part_is_listed(mixerlens):
    result = mixerlens("design", "parts", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {slot: [kind["kind"] for kind in kinds] for slot, kinds in found.items()} == {
        slot: list(kinds) for slot, kinds in SLOTS.items()
    }
    shown = mixerlens("design", "parts", "readout")
    assert "softcap" in shown.stdout and "row_sum" not in shown.stdout
    assert mixerlens("design", "parts", "reaodut").exit_code == 2


@pytest.mark.parametrize("form", ["yaml", "toml", "json"])
def test_a_family_is_shown_as_a_file_that_can_be_read(mixerlens, tmp_path, form):
    path = tmp_path / f"new.{form}"
    result = mixerlens("design", "show", "gated_delta_net", "--format", form, "-o", str(path))
    assert result.exit_code == 0
    assert path.read_text() == result.stdout
    assert from_text(result.stdout, form) == preset("gated_delta_net")
    assert mixerlens("design", "show", str(path), "--format", form).stdout == result.stdout


@pytest.mark.parametrize("form", ["yaml", "toml", "json"])
def test_the_suffix_says_the_format(mixerlens, tmp_path, form):
    path = tmp_path / f"new.{form}"
    result = mixerlens("design", "show", "gated_delta_net", "-o", str(path))
    assert result.exit_code == 0 and path.read_text() == result.stdout
    assert from_text(path.read_text(), form) == preset("gated_delta_net")


@pytest.mark.parametrize("asked", [["--format", "yaml"], ["--json"]])
def test_a_suffix_that_contradicts_the_format_is_refused(mixerlens, tmp_path, asked):
    path = tmp_path / "new.toml"
    result = mixerlens("design", "show", "gated_delta_net", *asked, "-o", str(path))
    assert result.exit_code == 2 and not path.exists()
    assert "ask for different formats" in " ".join(result.stderr.split()) and result.stdout == ""


def test_a_changed_file_is_checked(mixerlens, tmp_path):
    path = tmp_path / "new.yaml"
    text = mixerlens("design", "show", "gated_delta_net").stdout.replace("heads: 4", "heads: 2")
    path.write_text(text.replace("kind: beta", "kind: step"))
    result = mixerlens("design", str(path), "--check", "--features", "8", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["specification"]["scaling"] == {"kind": "step"}
    assert found["signals"]["step"]["low"] == 0
    assert found["forms"]["agree"] and max(found["forms"]["chunked"]) < 1e-10
    assert found["cost"]["features"] == 8 and found["cost"]["state"] > 0
    shown = mixerlens("design", str(path), "--check", "--features", "8")
    assert "every form agrees" in shown.stdout and "parameters on tokens of 8; a state of" in shown.stdout


def test_a_file_can_be_looked_at(mixerlens, tmp_path):
    result = mixerlens("design", "mamba2", "-o", str(tmp_path / "mamba2.json"))
    assert result.exit_code == 0
    assert "softplus" in result.stdout and "A_t = a_t I" in result.stdout
    assert "forms" not in json.loads((tmp_path / "mamba2.json").read_text())


def test_forms_that_differ_exit_with_one(mixerlens, monkeypatch):
    from mixerlens.design import Mixer

    right = Mixer.dense
    monkeypatch.setattr(Mixer, "dense", lambda mixer, x: right(mixer, x) * (1 + 1e-8))
    result = mixerlens("design", "linear_attention", "--check", "--features", "8")
    assert result.exit_code == 1
    assert "FAILED: the forms differ" in result.stdout


def test_a_mixer_without_a_recurrence_says_why(mixerlens):
    result = mixerlens("design", "softmax_attention", "--check", "--features", "8", "--json")
    found = json.loads(result.stdout)["forms"]
    assert result.exit_code == 0
    assert found["recurrent"] is None and "state-rank criterion" in found["refused"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nope"], "family (mixerlens design list): 'nope' is unknown"),
        (["gated_delta"], "did you mean gated_delta_net"),
        (["none.yaml"], "none.yaml: No such file"),
        (["none.txt"], "a specification is a .yaml"),
        (["show"], "show takes one name"),
        (["list", "x"], "list takes no name"),
        (["a", "b"], "look takes one name"),
        (["list", "--check"], "a check takes one file or family"),
        (["mamba2", "--features", "0"], "--features 0 must be"),
        (["mamba2", "-o", "/none/x.json"], "the folder /none does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_line(mixerlens, words, told):
    result = mixerlens("design", *words)
    assert result.exit_code == 2
    assert told in result.stderr and result.stderr.count("\n") == 1


def test_a_bad_file_is_one_line(mixerlens, tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text("name: x\nevolution: {kind: delta, dceay: rate}\n")
    result = mixerlens("design", str(path), "--check")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "new.yaml: evolution: 'dceay' is unknown; did you mean decay?" in result.stderr


def test_the_commands_of_the_page_run_in_their_order(mixerlens, tmp_path, monkeypatch):
    page = Path(__file__).resolve().parents[2] / "docs" / "design.md"
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    mixerlens (design .*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert mixerlens(*command.split()).exit_code == 0, command


def test_the_page_counts_the_families():
    page = Path(__file__).resolve().parents[2] / "docs" / "design.md"
    assert f"each of the {len(PRESETS)} rows" in page.read_text(encoding="utf-8")


def test_a_saved_design_is_certified(mixerlens, tmp_path):
    layers = tuple(preset(name, heads=2, dim=4, width=3) for name in ("gated_delta_net", "softmax_attention"))
    save(SequenceModel(ModelConfig(layers=layers, features=12, vocabulary=11), seed=0), tmp_path / "mine")
    result = mixerlens("verify", tmp_path / "mine", "--length", 20, "--json")
    checks = json.loads(result.stdout)["checks"]
    status = {(check["check"], check["variant"]): check["status"] for check in checks}
    assert result.exit_code == 0 and status["step", "plain"] == status["chunk", "plain"] == "pass"
    assert [c["variant"] for c in checks if c["check"] == "operator"] == ["model", "token-by-token sum"] * 2
