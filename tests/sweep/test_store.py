"""What stands in a sweep's folder counts only if it is whole and about the run that is asked for."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys

import pyarrow
import pyarrow.parquet as parquet
import pytest

from mixerlens import files
from mixerlens.errors import InputError
from mixerlens.files import WriteError
from mixerlens.sweep import Sweep, read
from mixerlens.sweep.store import Store
from sweep.doubles import config, configs, quick, result


def row(one):
    return one.columns() | result(one).columns()


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "out")
    made.prepare()
    return made


def test_what_is_put_is_got_again_and_only_for_its_own_configuration(store):
    one = config()
    assert store.get(one) is None
    store.put(one, row(one))
    assert store.get(one) == json.loads(json.dumps(row(one)))
    assert store.get(config(lr=1e-4)) is None
    assert [path.name for path in store.runs.iterdir()] == [f"{one.id}.json"]


def cut(text):
    return text[: len(text) // 2]


def another_result(text):
    return text.replace('"test_correct":', '"test_correct":1')


def another_key(text):
    return text.replace('"lr":0.003', '"lr":0.004', 1)


@pytest.mark.parametrize("damage", [cut, another_result, another_key, lambda text: "[]", lambda text: "\0" * 40])
def test_a_damaged_file_is_named_and_its_run_computed_again(tmp_path, damage):
    sweep = Sweep(configs(3), tmp_path, run=quick)
    first = sweep.run()
    path = sweep.store.path(sweep.runs[1])
    whole = path.read_bytes()
    path.write_text(damage(whole.decode()))
    found = sweep.run()
    assert found.computed == 1 and found.rows == first.rows and path.read_bytes() == whole
    assert len(found.refused) == 1 and str(path) in found.refused[0] and "computed again" in found.refused[0]


def test_a_run_under_another_runs_name_does_not_count(store):
    one, two = configs(2)
    store.put(one, row(one))
    os.rename(store.path(one), store.path(two))
    with pytest.raises(ValueError, match="about another run"):
        store.get(two)


@pytest.mark.parametrize(("part", "field"), [("row", "test_squares"), ("key", "tested")])
def test_a_run_of_an_earlier_version_is_called_so(store, part, field):
    one = config()
    body = json.loads(json.dumps({"key": one.key, "row": row(one)}))
    del body[part][field]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    body["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    store.path(one).write_text(json.dumps(body))
    with pytest.raises(ValueError, match=f"written by an earlier version: {field} missing"):
        store.get(one)


def test_the_table_has_the_same_rows_with_their_types(tmp_path):
    found = Sweep(configs(5), tmp_path, run=quick).run()
    table = parquet.read_table(tmp_path / "results.parquet", memory_map=False)
    assert table.to_pylist() == found.rows == read(tmp_path) == read(tmp_path / "results.parquet")
    assert table.schema.field("state_bytes").type == pyarrow.int64()  # though all are missing
    assert [each["seed"] for each in found.rows] == [0, 1, 2, 3, 4]


def test_a_folder_without_a_table_and_a_file_that_is_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="no table of a finished sweep"):
        read(tmp_path)
    (tmp_path / "results.parquet").write_text("PAR1")
    with pytest.raises(InputError, match="no Parquet table"):
        read(tmp_path)
    parquet.write_table(pyarrow.table({"id": ["a"]}), tmp_path / "results.parquet")
    with pytest.raises(InputError, match="not the columns"):
        read(tmp_path)


def test_a_full_disk_ends_the_sweep_with_what_is_stored_and_leaves_no_half_file(tmp_path, monkeypatch):
    sweep, replaced = Sweep(configs(4), tmp_path, run=quick), os.replace

    def full_after_two(source, target):
        if len(list(sweep.store.runs.glob("*.json"))) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replaced(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full_after_two)
        with pytest.raises(WriteError, match=r"No space left on device; 2 of 4 runs are stored in .*, and the same"):
            sweep.run()
    assert all(path.suffix == ".json" for path in sweep.store.runs.iterdir())
    found = sweep.run()
    assert found.computed == 2 and len(found.rows) == 4


@pytest.mark.parametrize("folder", ["file/out", "file", "/proc/out"])
def test_a_folder_that_takes_no_files_is_refused_before_anything_runs(tmp_path, folder):
    (tmp_path / "file").write_text("")
    calls = []
    with pytest.raises(InputError, match="cannot write below"):
        Sweep(configs(1), tmp_path / folder, run=calls.append).run()
    assert not calls


def test_two_sweeps_in_one_folder_do_not_mix(tmp_path):
    holder = (
        "import sys; from mixerlens.sweep.store import Store\n"
        "with Store(sys.argv[1]).lock():\n    print('held', flush=True); sys.stdin.read()"
    )
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)], env=environment, **options)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"another sweep is at work .*\(process {other.pid}\)"):
            Sweep(configs(1), tmp_path, run=quick).run()
    finally:
        other.kill()  # the lock goes with the process, however it ends
        other.communicate()
    assert len(Sweep(configs(1), tmp_path, run=quick).run().rows) == 1
