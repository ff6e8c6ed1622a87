"""The command as it is run: exit codes, JSON, resuming, and that quick runs leave no trace in the documentation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import __main__ as command
from bench.memory import environment

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=cwd,
        env=environment(1),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick run of one case, in a folder of its own."""
    folder = tmp_path_factory.mktemp("bench")
    before = (ROOT / "README.md").read_bytes(), sorted((ROOT / "docs").iterdir())
    done = bench("--quick", "--only", "s4d-kernel", "--json", "rows.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert before == ((ROOT / "README.md").read_bytes(), sorted((ROOT / "docs").iterdir()))
    return folder, done


def test_the_table_is_printed_and_marked_as_quick(quick):
    _, done = quick
    assert "QUICK RUN" in done.stdout and "complex exponentials" in done.stdout
    assert "1/1 s4d-kernel: gate" in done.stderr  # progress, apart from the table


def test_the_json_holds_all_of_it(quick):
    document = json.loads((quick[0] / "rows.json").read_text())
    assert list(document) == ["schema", "date", "quick", "machine", "source", "rates", "rows"]
    assert document["quick"] is True
    row = document["rows"]["s4d-kernel"]
    assert set(row) == {"case", "title", "size", "note", "flops_note", "quick", "contenders", "status", "bars", "took"}
    for way in row["contenders"].values():
        assert {"error", "tolerance", "gate", "seconds", "bytes"} <= set(way)
        assert set(way["seconds"]) == {"median", "low", "high", "min", "max", "count"}
    for bar in row["bars"]:
        assert set(bar) == {"measure", "ours", "against", "bound", "least", "value", "met"}
    assert str(ROOT) not in json.dumps(document)


def test_a_resumed_run_measures_nothing_twice_and_adds_what_is_new(quick):
    folder, _ = quick
    old = json.loads((folder / "rows.json").read_text())
    done = bench("--quick", "--only", "s4d", "--json", "rows.json", "--resume", cwd=folder)
    assert done.returncode == 0, done.stderr
    new = json.loads((folder / "rows.json").read_text())
    assert "s4d-kernel: timing" not in done.stderr and "s4d-backward: timing" in done.stderr
    assert new["rows"]["s4d-kernel"] == old["rows"]["s4d-kernel"]
    assert list(new["rows"]) == ["s4d-kernel", "s4d-backward"]
    assert "going on: 1 of 2 cases are kept" in done.stderr


def test_an_interrupted_run_keeps_what_is_finished(make_case, tmp_path, monkeypatch, capsys):
    def interrupted(size):
        raise KeyboardInterrupt

    cases = {"squares": make_case(memory=False, seconds=0.01), "later": make_case(make=interrupted, memory=False)}
    monkeypatch.setattr("bench.cases.CASES", cases)
    monkeypatch.setattr("bench.publish.publish", lambda *_: pytest.fail("published"))
    monkeypatch.setattr("bench.machine.rates", lambda seconds: {"a": {"rate": 1.0, "unit": "G/s"}})
    path = tmp_path / "rows.json"
    assert command.main(["--json", str(path)]) == 130
    said = capsys.readouterr()
    assert "interrupted" in said.err and "Squares" in said.out
    assert list(json.loads(path.read_text())["rows"]) == ["squares"]


def test_json_alone_on_standard_output(make_case, monkeypatch, capsys):
    monkeypatch.setattr("bench.cases.CASES", {"squares": make_case(memory=False)})
    assert command.main(["--quick", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]["squares"]["status"] == "green"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--only", "no-such-case"), ("--threads", "0"), ("--resume", "--json", "-"), ("--fast",), ("--json", "."),
        ("--json", "/dev/null"),
    ],
)  # fmt: skip
def test_bad_arguments_exit_with_two_and_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(list(arguments))
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("python -m bench: error:")


@pytest.mark.parametrize(
    ("status", "met", "broken", "strict", "code"),
    [
        ("green", True, [], True, 0), ("green", False, [], False, 0), ("green", None, [], True, 0),
        ("green", False, [], True, 4), ("red", None, [], False, 1), ("red", False, ["b"], True, 3),
    ],
)  # fmt: skip
def test_exit_codes(status, met, broken, strict, code, capsys):
    document = {"rows": {"a": {"status": status, "bars": [{"met": met}]}}}
    assert command.verdict(document, broken, strict) == code
    assert bool(capsys.readouterr().err) is (code != 0 or met is False)


def test_a_wrong_way_ends_the_run_with_one_and_publishes_nothing(make_case, memory, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bench.cases.CASES", {"squares": make_case(wrong=0.5)})
    monkeypatch.setattr("bench.publish.publish", lambda *_: pytest.fail("published"))
    monkeypatch.setattr("bench.machine.rates", lambda seconds: {})
    assert command.main(["--json", str(tmp_path / "rows.json")]) == 1
    assert "the gate is red: squares" in capsys.readouterr().err


def test_a_case_that_breaks_ends_the_run_with_three_and_the_others_are_kept(make_case, tmp_path, monkeypatch, capsys):
    def broken(size):
        if size["time"] > 16:
            raise MemoryError("too much")
        return {"x": torch.ones(size["time"])}

    cases = {
        "squares": make_case(memory=False, seconds=0.01),
        "broken": make_case(make=broken, gate={"time": 16}, memory=False),
    }
    monkeypatch.setattr("bench.cases.CASES", cases)
    monkeypatch.setattr("bench.publish.publish", lambda *_: pytest.fail("published"))
    monkeypatch.setattr("bench.machine.rates", lambda seconds: {})
    assert command.main(["--json", str(tmp_path / "rows.json")]) == 3
    assert "broke off: broken" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "rows.json").read_text())["rows"]) == ["squares"]
