"""The command as a process: exit codes, what is on stdout and what on stderr, closed pipes, interrupts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.helpers import SOURCE, save


def test_holds_is_0_and_stdout_is_json_alone(s4d_folder, process):
    run = process("verify", s4d_folder, "--length", 16, "--json")
    out, err = run.communicate(timeout=120)
    assert (run.returncode, err) == (0, "")
    assert json.loads(out)["passed"] is True


def test_a_failing_check_is_1(tmp_path, process):
    """gpt2 with bare left padding counts positions from the padding: a real fault, found from outside."""
    run = process("verify", save("gpt2", tmp_path / "gpt2"), "--length", 16, "--checks", "padding", "--json")
    out, err = run.communicate(timeout=120)
    result = json.loads(out)
    assert (run.returncode, err, result["passed"]) == (1, "", False)
    failed = [check for check in result["checks"] if check["status"] == "fail"]
    assert failed and all("left" in check["variant"] for check in failed)


def test_bad_input_is_2_and_one_line(tmp_path, process):
    run = process("verify", tmp_path / "nowhere", "--json")
    out, err = run.communicate(timeout=120)
    assert (run.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("mixerlens: ") and "nowhere" in err


def test_a_reader_who_leaves_is_no_error(s4d_folder, process):
    run = process("inspect", s4d_folder, "--json")
    run.stdout.close()
    assert run.stderr.read() == "" and run.wait(timeout=120) == 141


def test_a_pipe_is_a_hundred_columns_wide_and_cuts_no_word(tmp_path):
    """Without a terminal and without COLUMNS there is no width to go by."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "mixerlens", "verify", save("gpt2", tmp_path / "gpt2"), "--length", "16"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (1, "") and max(map(len, run.stdout.splitlines())) <= 100
    assert "certificate: 1 of 12 checks fails" in run.stdout
    assert {"left/plain", "left/position_ids", "right/position_ids"} <= set(run.stdout.split())


def test_started_without_stdout(s4d_folder):
    command = f'exec {sys.executable} -m mixerlens inspect "{s4d_folder}" >&-'
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    run = subprocess.run(["sh", "-c", command], env=environment, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout(s4d_folder, process):
    with open("/dev/full", "w") as full:
        run = process("inspect", s4d_folder, "--json", stdout=full)
        err = run.communicate(timeout=120)[1]
    assert run.returncode == 2 and err.count("\n") == 1 and "No space left" in err


def test_an_interrupt_is_130_and_leaves_nothing(s4d_folder, tmp_path, process):
    """Interrupted while it waits for its input, which here comes through a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "slow.npy")
    run = process("report", s4d_folder, "--input", tmp_path / "slow.npy", "-o", tmp_path / "report.html")
    with open(tmp_path / "slow.npy", "w"):  # returns once the other side has opened it, so it is inside the verb
        for _ in range(12):  # a signal may fall where Python can only ignore it, in a destructor say: press again
            run.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = run.communicate(timeout=10)
                break
    assert (run.returncode, out, err) == (130, "", "mixerlens: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["slow.npy"]


@pytest.mark.parametrize(("shown", "code"), [(False, 3), (True, 1)])
def test_an_error_of_our_own_asks_to_be_reported(shown, code, s4d_folder, tmp_path, process):
    """Provoked from outside, by a measure that breaks."""
    (tmp_path / "sitecustomize.py").write_text(
        "import mixerlens.cli.inspect as module\n"
        "def open_model(*_): raise ZeroDivisionError('two\\nlines')\n"
        "module.open_model = open_model\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{SOURCE}", "MIXERLENS_TRACEBACK": "1" if shown else ""}
    run = process("inspect", s4d_folder, env=environment)
    out, err = run.communicate(timeout=120)
    assert (run.returncode, out, "Traceback" in err) == (code, "", shown)
    if not shown:
        assert err == (
            "mixerlens: internal error, please report it (MIXERLENS_TRACEBACK=1 shows where): "
            "ZeroDivisionError: two lines\n"
        )
