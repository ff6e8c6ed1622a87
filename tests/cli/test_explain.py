"""``mixerlens explain``: what it prints adds up to what the model says, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.test_bad_input import assert_refused
from mixerlens.cli.strip import strip
from mixerlens.models.s4d import load_s4d

DIGITS = Path(__file__).resolve().parents[2] / "specimens" / "digits-s4d"
QUICK = ("--pairs", 3)


def as_json(result):
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def logits(number: int) -> list[float]:
    with torch.no_grad():
        return load_s4d(DIGITS, torch.float64)(torch.from_numpy(np.load(DIGITS / "examples.npy"))[[number]])[0].tolist()


def test_the_json_adds_up_to_the_models_logit(mixerlens):
    want = logits(7)
    printed = as_json(mixerlens("explain", DIGITS, "--input", 7, *QUICK, "--json"))
    predicted = want.index(max(want))
    assert (printed["input"], printed["target"], printed["predicted"]) == ("7", predicted, predicted)
    pairs = printed["pairs"]
    total = pairs["constant"] + np.sum(pairs["linear"]) + np.sum(pairs["interactions"])
    assert total == pytest.approx(max(want), rel=1e-12)
    assert np.shape(pairs["interactions"]) == (33, 33) and pairs["borders"] == list(range(0, 65, 2))
    by_step = printed["frozen"]["constant"] + np.sum(printed["frozen"]["contributions"])
    assert by_step == pytest.approx(max(want), rel=1e-12)
    assert len(printed["removal"]["synergy"]) == 3 and printed["removal"]["curvature"] is None


def test_the_label_of_a_known_input_is_shown(mixerlens, tmp_path):
    labels, digits = np.load(DIGITS / "labels.npy"), np.load(DIGITS / "examples.npy")
    np.savez(tmp_path / "five.npz", digits[5])
    for given in (5, tmp_path / "five.npz"):  # by its number, and recognised by its numbers
        assert as_json(mixerlens("explain", DIGITS, "--input", given, *QUICK, "--json"))["label"] == labels[5]
        shown = mixerlens("explain", DIGITS, "--input", given, *QUICK, columns=120).stdout
        assert f"; the model predicts class {labels[5]}, its label is {labels[5]}" in " ".join(shown.split())
    np.save(tmp_path / "other.npy", digits[5] + 0.25)
    other = mixerlens("explain", DIGITS, "--input", tmp_path / "other.npy", *QUICK)
    assert other.exit_code == 0 and "its label" not in other.stdout
    assert as_json(mixerlens("explain", DIGITS, "--input", tmp_path / "other.npy", *QUICK, "--json"))["label"] is None


def test_a_class_against_another(mixerlens):
    want = logits(2)
    options = ("--target", 4, "--against", 9, "--segments", 8, "--hessian", *QUICK)
    printed = as_json(mixerlens("explain", DIGITS, "--input", 2, *options, "--json"))
    assert printed["total"] == pytest.approx(want[4] - want[9], rel=1e-11)
    assert np.shape(printed["removal"]["curvature"]) == (8, 8)
    shown = mixerlens("explain", DIGITS, "--input", 2, *options).stdout
    assert f"the logit of class 4 less that of class 9; the model predicts class {want.index(max(want))}" in shown
    assert "Hessian" in shown


@pytest.mark.parametrize("columns", [80, 100])
def test_the_terms_of_the_table_add_up(columns, mixerlens):
    result = mixerlens("explain", DIGITS, "--input", 3, *QUICK, columns=columns)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert all(len(line) <= columns for line in lines if str(DIGITS) not in line)
    value = {name: float(number) for name, number in re.findall(r"^(\w.*?) +(-?\d+\.\d{9})$", result.stdout, re.M)}
    *terms, total, own, stored = value.values()
    assert len(terms) == 6 and sum(terms) == pytest.approx(total, abs=1e-8)
    assert total == own == pytest.approx(max(logits(3)), abs=1e-8) and abs(stored - own) < 1e-4
    assert "bookkeeping of this pass; it holds block 0: its activation's gate" in " ".join(result.stdout.split())
    assert sum(line.startswith(("linear  ", "interactions +", "lost without")) for line in lines) == 3


def test_an_input_of_zeros_has_no_rank_and_no_change(mixerlens, tmp_path):
    np.save(tmp_path / "zero.npy", np.zeros((64, 1)))
    result = mixerlens("explain", DIGITS, "--input", tmp_path / "zero.npy", *QUICK)
    said = " ".join(result.stdout.split())
    assert result.exit_code == 0 and "nan" not in said.replace(str(tmp_path), "")
    assert "really does: - over segments, - over the 3 pairs removed (-: too few of them, or all alike)." in said
    assert "the logit does not change, so nothing is missed." in said


def test_files_in_and_out(s4d_folder, mixerlens, tmp_path):
    pytest.importorskip("matplotlib")
    inputs = np.random.default_rng(0).normal(size=(21, 3))
    np.save(tmp_path / "one.npy", inputs)
    np.savez(tmp_path / "batch.npz", inputs=inputs[None].astype(np.float32))
    np.save(tmp_path / "mean.npy", inputs.mean(0))
    files = ("-o", tmp_path / "out.json", "--figure", tmp_path / "map.svg", "--baseline", tmp_path / "mean.npy")
    printed = as_json(mixerlens("explain", s4d_folder, "--input", tmp_path / "one.npy", "--json", *files, *QUICK))
    assert json.loads((tmp_path / "out.json").read_text()) == printed
    assert (tmp_path / "map.svg").read_text().count("<path") > 20
    with torch.no_grad():
        want = load_s4d(s4d_folder, torch.float64)(torch.from_numpy(inputs)[None])[0].max()
        single = load_s4d(s4d_folder, torch.float64)(torch.from_numpy(inputs.astype(np.float32)).double()[None])[
            0
        ].max()
    assert printed["total"] == pytest.approx(float(want), rel=1e-12)
    other = as_json(mixerlens("explain", s4d_folder, "--input", tmp_path / "batch.npz", "--json", *QUICK))
    assert other["total"] == pytest.approx(float(single), rel=1e-12)
    assert {path.name for path in tmp_path.iterdir()} == {"one.npy", "batch.npz", "mean.npy", "out.json", "map.svg"}


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (["--input", 32], r"--input 32: .*examples.npy has inputs 0 \.\. 31$"),
        (["--input", -1], r"--input -1: .* has inputs 0 \.\. 31$"),
        (["--input", "nowhere.npy"], "nowhere.npy: there is no such file"),
        (["--input", 0, "--target", 10], r"target 10: the model has classes 0 \.\. 9"),
        (["--input", 0, "--target", 1, "--against", 1], "both class 1"),
        (["--input", 0, "--segments", 0], "segments 0: at least one"),
        (["--input", 0, "--pairs", "most"], "--pairs 'most': give a number from 0 on, or all"),
        (["--input", 0, "--baseline", "none.npy"], "--baseline none.npy: there is no such file"),
        (["--input", 0, "--output", "missing/out.json"], "the folder missing does not exist"),
        (["--input", 0, "--figure", "map.bmp"], r"cannot draw map.bmp: end it in \.png"),
    ],
)
def test_options_that_cannot_be_met(options, pattern, mixerlens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(mixerlens("explain", DIGITS, *options, *(QUICK if "--pairs" not in options else ())), pattern)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("array", "pattern"),
    [
        (np.zeros((4, 64, 1)), r"one input is floats \(time >= 1, 1 channels\), not float64 \(4, 64, 1\)"),
        (np.zeros((64, 2)), r"1 channels\), not float64 \(64, 2\)"),
        (np.zeros((0, 1)), "time >= 1"),
        (np.zeros((64, 1), dtype=int), r"holds int64 \(64, 1\); floats \(time, channels\)"),
        (np.full((64, 1), np.nan), "NaN or infinite"),
    ],
)
def test_inputs_the_model_cannot_take(array, pattern, mixerlens, tmp_path):
    np.save(tmp_path / "in.npy", array)
    assert_refused(mixerlens("explain", DIGITS, "--input", tmp_path / "in.npy"), pattern)


def test_text_other_models_and_no_examples(mixerlens, llama_folder, s4d_folder, tmp_path):
    (tmp_path / "words.txt").write_text("hello")
    assert_refused(mixerlens("explain", DIGITS, "--input", tmp_path / "words.txt"), "words.txt: holds text; floats")
    assert_refused(mixerlens("explain", llama_folder, "--input", 0), "S4D classifiers .* not for LlamaForCausalLM")
    assert_refused(
        mixerlens("explain", s4d_folder, "--input", 0), "has no examples.npy to number; give a .npy or .npz file"
    )
    shutil.copytree(s4d_folder, tmp_path / "m")
    np.save(tmp_path / "m" / "examples.npy", np.zeros((5, 3)))
    assert_refused(mixerlens("explain", tmp_path / "m", "--input", 0), "examples.npy is .*5, 3")


def test_an_input_that_is_too_long(mixerlens, tmp_path, monkeypatch):
    np.save(tmp_path / "long.npy", np.zeros((5000, 1)))
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", str(2**20))
    assert_refused(mixerlens("explain", DIGITS, "--input", tmp_path / "long.npy"), "needs 30720000 bytes .*shorter")


def test_an_account_that_does_not_add_up_fails_as_a_check(mixerlens, tmp_path):
    """Numbers so large that the model itself overflows."""
    np.save(tmp_path / "huge.npy", np.full((64, 1), 1.7e308))
    result = mixerlens("explain", DIGITS, "--input", tmp_path / "huge.npy", "--json", "-o", tmp_path / "out.json")
    assert (result.exit_code, result.stdout) == (1, "") and not (tmp_path / "out.json").exists()
    assert re.fullmatch(r"mixerlens: the account of the logit of class \d sums to nan, .* refused; .*\n", result.stderr)


def test_an_input_has_to_be_named(mixerlens):
    result = mixerlens("explain", DIGITS)
    assert result.exit_code == 2 and "'--input'" in result.stderr and result.stderr.count("\n") == 1


def test_strips():
    assert strip("waves", [1.0, -0.5, 0.0, 0.25]) == ["waves        + █  ▂ 1", "             -  ▄   -0.5"]
    assert strip("none", [0.0, 0.0]) == ["none         +", "             -"]
    plus, minus = strip("long", [1.0] * 56 + [-1.0, 0.5] * 28)  # 112 values: neighbours by two, 2 and -0.5
    assert plus == "long         + " + "█" * 28 + " " * 28 + " 2"
    assert minus == "             - " + " " * 28 + "▂" * 28 + " -0.5"
