"""What a resumed run keeps, and what the description of a machine gives away."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from bench import machine, store

MACHINE = {"cpu": "abacus", "threads": 1, "versions": {"torch": "2.13.0"}}


def test_rows_of_the_same_machine_versions_and_source_are_kept(tmp_path):
    path = tmp_path / "new folder" / "bench.json"
    document = store.new(MACHINE, False)
    document["rows"] |= {"squares": {"status": "green"}, "cubes": {"status": "red"}}  # what was wrong is tried again
    store.save(document, path)
    kept, lost = store.resumed(path, store.new(MACHINE, False))
    assert kept["rows"] == {"squares": {"status": "green"}} and lost == ""


@pytest.mark.parametrize(
    ("machine_", "quick", "what"),
    [
        (MACHINE | {"threads": 2}, False, "machine or versions"),
        (MACHINE | {"cpu": "other"}, False, "machine or versions"),
        (MACHINE, True, "--quick"),
    ],
)
def test_rows_of_another_are_not(machine_, quick, what, tmp_path):
    path = tmp_path / "bench.json"
    document = store.new(MACHINE, False)
    document["rows"]["squares"] = {}
    store.save(document, path)
    fresh = store.new(machine_, quick)
    assert store.resumed(path, fresh) == (fresh, f"{path} differs in {what}")


def test_rows_of_other_source_are_not(tmp_path):
    path = tmp_path / "bench.json"
    store.save(store.new(MACHINE, False) | {"source": "0" * 16, "rows": {"squares": {}}}, path)
    fresh = store.new(MACHINE, False)
    assert store.resumed(path, fresh) == (fresh, f"{path} differs in code")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null"])
def test_a_file_that_is_no_run_is_not_gone_on_with(text, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(text)
    fresh = store.new(MACHINE, False)
    assert store.resumed(path, fresh)[0] is fresh
    missing = tmp_path / "missing.json"
    assert store.resumed(missing, fresh) == (fresh, f"{missing} is not there")


def test_the_machine_is_described_without_its_name_or_its_folders():
    found = json.dumps(machine.describe(1))
    assert socket.gethostname() not in found
    assert str(Path.home()) not in found.replace('"/"', "")
    assert machine.describe(1)["versions"]["torch"].startswith("2.")


def test_every_rate_of_the_machine_is_measured():
    rates = machine.rates(0.05)
    assert {name.split()[0] for name in rates} == {"GEMM", "FFT", "copy", "exp", "exp2"}
    assert all(0.001 < r["rate"] < 1e5 for r in rates.values())
