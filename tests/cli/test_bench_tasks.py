"""``mixerlens bench-tasks``: its table, JSON and figure, a sweep that is interrupted and goes on, its errors."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

import mixerlens.cli.bench_tasks as verb_module
from mixerlens.errors import UnsupportedError
from mixerlens.sweep import read, sweep
from mixerlens.sweep.summary import Cell, Difference, Summary
from mixerlens.sweep.training import train
from sweep.doubles import result

DOCS = Path(__file__).resolve().parents[2] / "docs"

SMALL = "--task-option length=8 --steps 3 --batch 4 --features 8 --looks 1 --held 8 --tested 40"
RUN = f"bench-tasks linear_attention retnet --tasks recall --seeds 0,1 --grid lr=1e-3,1e-2 {SMALL}".split()


def test_a_sweep_its_table_json_and_figure(mixerlens, tmp_path):
    found = mixerlens(*RUN, "-o", tmp_path / "out", "--json", "--figure", tmp_path / "a.png")
    assert (found.exit_code, found.stderr) == (0, "")
    told = json.loads(found.stdout)
    rows = read(tmp_path / "out")
    assert told["runs"] == len(rows) == 8 and told["specs"] == ["linear_attention", "retnet"]
    assert told["grid"] == {"lr": [1e-3, 1e-2]} and told["missing"] == []
    for cell in told["cells"]:
        own = [row for row in rows if row["spec"] == cell["spec"]]
        by_rate = {lr: [row for row in own if row["lr"] == lr] for lr in (1e-3, 1e-2)}
        means = {lr: sum(row["validation_accuracy"] for row in each) / 2 for lr, each in by_rate.items()}
        assert means[cell["point"]["lr"]] == max(means.values()) == pytest.approx(cell["validation"])
        tested = [row["test_accuracy"] for row in by_rate[cell["point"]["lr"]]]
        assert cell["accuracies"] == tested and cell["mean"] == pytest.approx(sum(tested) / 2)
        assert cell["low"] <= cell["mean"] <= cell["high"]
    assert "state_bytes: bytes a sequence" in told["units"]["cells"]
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    # the second call computes nothing, and shows the same
    shown = mixerlens(*RUN, "-o", tmp_path / "out", "--stored")
    assert shown.exit_code == 0 and "8 of 8 runs are stored" in shown.stdout
    for words in ("recall", "retnet", "chosen", "less", "0.125", "parameters", "mean over 2 seeds, up to 40 test"):
        assert words in shown.stdout, words
    assert f"{told['cells'][1]['mean']:.3f}" in shown.stdout
    assert json.loads(mixerlens(*RUN, "-o", tmp_path / "out", "--json").stdout) == told


def test_kept_models_are_named_and_open_with_the_other_verbs(mixerlens, tmp_path):
    words = ("bench-tasks", "retnet", "--tasks", "recall", "--seeds", "0,1", *SMALL.split(), "-o", tmp_path / "out")
    assert mixerlens(*words, "--json").exit_code == 0
    found = mixerlens(*words, "--keep", tmp_path / "models", "--json")
    assert found.exit_code == 0 and found.stderr == (
        "mixerlens: 2 stored runs are trained again for the model, and stored with it: "
        f"it is not in {tmp_path / 'models'}\n"
    )
    kept = json.loads(found.stdout)["models"]
    assert [each["run"] for each in kept] == [f"retnet recall seed {seed} lr 0.003 wd 0" for seed in (0, 1)]
    again = mixerlens(*words, "--keep", tmp_path / "models")
    assert again.exit_code == 0 and again.stderr == ""
    assert f"2 models are kept in {tmp_path / 'models'}" in " ".join(again.stdout.split())
    folder = kept[1]["folder"]
    inspected = mixerlens("inspect", folder, "--json")
    assert inspected.exit_code == 0 and "retnet" in inspected.stdout
    for verb in ("verify", "principles"):
        told = mixerlens(verb, folder, "--json")
        assert told.exit_code == 0, (verb, told.stderr)
    refused = mixerlens(*words, "--keep", tmp_path / "models", "--stored")
    assert refused.exit_code == 2 and "drop one of the two" in refused.stderr and refused.stderr.count("\n") == 1


def test_an_interrupted_sweep_says_what_is_stored_and_goes_on(mixerlens, tmp_path, monkeypatch):
    calls = []

    def interrupted(config):
        calls.append(config)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(config)

    monkeypatch.setattr(sweep, "train", interrupted)
    found = mixerlens(*RUN, "-o", tmp_path)
    assert found.exit_code == 130 and found.stderr.count("\n") == 1
    assert f"interrupted: 3 of 8 runs are stored in {tmp_path}, and the same command goes on there" in found.stderr
    part = mixerlens(*RUN, "-o", tmp_path, "--stored", "--json")
    assert part.exit_code == 0 and len(json.loads(part.stdout)["missing"]) == 5
    found = mixerlens(*RUN, "-o", tmp_path, "--json")
    assert found.exit_code == 0 and len(calls) == 4 + 5 and json.loads(found.stdout)["missing"] == []


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_an_interrupt_ends_the_process_and_its_workers(process, tmp_path, more):
    """In the middle of runs that are far longer than the test."""
    run = process(*RUN, "--steps", "100000", "-o", tmp_path, *more)
    deadline = time.monotonic() + 60
    while not (tmp_path / "runs").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    # a shell shows 130 for both: Python ends by the signal itself where it met text that was being executed (an import)
    assert run.returncode in (130, -signal.SIGINT) and out == ""
    assert err.startswith("mixerlens: interrupted: 0 of 8 runs are stored in") and err.count("\n") == 1


def test_a_run_that_ends_with_an_error_is_named_and_the_exit_code_is_1(mixerlens, tmp_path, monkeypatch):
    def sometimes(config):
        if config.seed == 1 and config.name == "retnet":
            raise RuntimeError("no luck")
        return train(config)

    monkeypatch.setattr(sweep, "train", sometimes)
    found = mixerlens(*RUN, "-o", tmp_path)
    assert found.exit_code == 1 and found.stderr.count("RuntimeError: no luck") == 2
    assert "6 of 8 runs are stored" in found.stdout and "missing: retnet recall seed 1" in found.stdout


def test_where_every_run_ends_with_an_error_the_exit_code_is_1_too(mixerlens, tmp_path, monkeypatch):
    def never(config):
        raise UnsupportedError("no room") if config.seed else RuntimeError("no luck")

    monkeypatch.setattr(sweep, "train", never)
    found = mixerlens(*RUN, "-o", tmp_path)
    assert (found.exit_code, found.stdout) == (1, "") and found.stderr.count("\n") == 8
    assert "retnet recall seed 1 lr 0.001 wd 0: no room" in found.stderr  # words of our own need no class
    assert found.stderr.count("RuntimeError: no luck") == 4


def test_a_state_that_fits_nowhere_is_one_line_before_anything_runs(mixerlens, tmp_path):
    large = tmp_path / "large.json"
    readout = {"kind": "polynomial", "coefficients": [0, 0, 0, 0, 0, 0, 0, 1]}
    large.write_text(json.dumps({"name": "large", "heads": 1, "dim": 2048, "readout": readout}))
    found = mixerlens("bench-tasks", large, "--tasks", "recall", *SMALL.split(), "-o", tmp_path / "out")
    assert found.exit_code == 2 and found.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
    assert found.stderr.startswith("mixerlens: large on recall: lifting 2048 numbers") and "Error" not in found.stderr


def test_what_an_engine_says_is_not_on_stdout(mixerlens, tmp_path, monkeypatch):
    def talks(config):
        print("a worker died")
        return result(config)

    monkeypatch.setattr(sweep, "train", talks)
    found = mixerlens(*RUN, "-o", tmp_path, "--json")
    assert json.loads(found.stdout)["runs"] == 8 and found.stderr == "a worker died\n" * 8


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("perceptron", "--tasks", "recall"), "'perceptron'"),
        (("retnet", "--tasks", "poetry"), "'poetry' is no task"),
        (("retnet", "--tasks", "recall", "--grid", "rate=1"), "--grid rate=1"),
        (("retnet", "--tasks", "recall", "--grid", "lr="), "a value is missing"),
        (("retnet", "--tasks", "recall", "--grid", "lr=1,1"), "stands there twice"),
        (("retnet", "--tasks", "recall", "--grid", "lr=0"), "lr 0.0: a number above 0"),
        (("retnet", "--tasks", "recall", "--seeds", "1,1"), "different numbers"),
        (("retnet", "--tasks", "recall", "--steps", "0"), "steps 0"),
        (("retnet", "--tasks", "recall", "--size", "huge"), "preset must be one of"),
        (("retnet", "--tasks", "recall", "--positions", "painted"), "positions must be one of"),
        (("retnet", "--tasks", "recall", "--task-option", "depth=1"), "has no option 'depth'"),
        (("retnet", "--tasks", "recall", "--engine", "slurm"), "'slurm' is no engine"),
        (("retnet", "--tasks", "recall", "--workers", "0"), "0 workers"),
        (("retnet", "--tasks", "recall", "--address", "auto"), "engine ray"),
        (("retnet", "--tasks", "recall", "--figure", "a.doc"), "end it in .png"),
        (("retnet", "--tasks", "recall", "--stored"), "no run of this sweep is stored"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(mixerlens, tmp_path, monkeypatch, changed, said):
    monkeypatch.setattr(sweep, "train", None)
    found = mixerlens("bench-tasks", *changed, "-o", tmp_path / "out")
    assert found.exit_code == 2 and said in found.stderr and found.stderr.count("\n") == 1, found.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_without_ray_the_extra_is_named(mixerlens, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    found = mixerlens(*RUN, "-o", tmp_path, "--engine", "ray")
    assert found.exit_code == 2 and "pip install 'mixerlens[scale]'" in found.stderr and found.stderr.count("\n") == 1


def test_the_pages_command_is_the_one_its_numbers_are_of(mixerlens, tmp_path, monkeypatch):
    """Its runs are planned and built as they stand there; the training itself is left out."""
    page = (DOCS / "bench-tasks.md").read_text(encoding="utf-8")
    block = page[page.index("    mixerlens bench-tasks") :]
    words = shlex.split(block[: block.index("\n\n")].replace("\\\n", " "))
    monkeypatch.chdir(DOCS.parent)
    monkeypatch.setattr(sweep, "train", result)
    place = words.index("--figure")
    found = mixerlens(*words[1:place], "-o", tmp_path, "--json")
    assert found.exit_code == 0, found.stderr
    planned, told = json.loads(found.stdout), json.loads((DOCS / "bench-tasks.json").read_text(encoding="utf-8"))
    for name in ("specs", "tasks", "seeds", "grid", "recipe", "runs", "missing"):
        assert planned[name] == told[name], name
    assert words[place + 1] == "docs/bench-tasks.png" and (DOCS / "bench-tasks.png").exists()


def summary_of_the_page():
    told = json.loads((DOCS / "bench-tasks.json").read_text(encoding="utf-8"))
    parts = {
        name: [kind(**{f.name: row[f.name] for f in fields(kind)}) for row in told[name]]
        for name, kind in (("cells", Cell), ("differences", Difference))
    }
    names = {f.name for f in fields(Summary)} - parts.keys()
    return Summary(**{name: told[name] for name in names}, **parts)


def test_no_number_is_broken_in_a_narrow_terminal(capsys, monkeypatch):
    found = summary_of_the_page()
    differences = [replace(each, spec="softmax_attention+retnet") for each in found.differences]
    cells = [replace(each, state_bytes=None, grows_bytes=2048, shared=360) for each in found.cells]
    monkeypatch.setenv("COLUMNS", "80")
    verb_module._show(replace(found, cells=cells, differences=differences))
    shown = capsys.readouterr().out.splitlines()
    for each in differences:
        line = f"{each.mean:+.3f}  {each.low:+.3f} to {each.high:+.3f}"
        assert any(line in row and row.rstrip().endswith(each.verdict) for row in shown), line
    assert "reflecting: 32,408 parameters on recall, a state that grows by 2,048 bytes a token" in shown
    assert "parity: all seeds are asked from the same 360 test examples, which count once" in shown


def test_the_pages_tables_are_its_numbers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    verb_module._show(summary_of_the_page())
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    page = [line[4:] for line in (DOCS / "bench-tasks.md").read_text(encoding="utf-8").splitlines()]
    start = page.index(shown[0])
    assert page[start : start + len(shown)] == shown


def test_the_tasks_are_one_short_row_each_in_a_narrow_terminal(mixerlens):
    shown = mixerlens("tasks", columns=80).stdout.splitlines()
    assert max(map(len, shown)) <= 80 and len(shown) < 3 * 12 + 5
    (parity,) = (line for line in shown if line.startswith("parity "))
    assert parity.split()[-4:] == ["256,", "64", "0.502,", "0.508"]
