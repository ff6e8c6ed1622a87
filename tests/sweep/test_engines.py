"""Processes of this machine: the same rows as one after the other, also when one is killed."""

from __future__ import annotations

import multiprocessing
import sys

import pytest

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.sweep import Sweep, engines
from sweep.doubles import configs, dies, quick


def test_unknown_engines_and_numbers_are_refused(tmp_path):
    sweep = Sweep(configs(1), tmp_path, run=quick)
    for given, said in (
        ({"engine": "slurm"}, "'slurm' is no engine; choose from local, ray"),
        ({"workers": 0}, "0 workers"),
        ({"address": "auto"}, "which the engine ray uses"),
    ):
        with pytest.raises(InputError, match=said):
            sweep.run(**given)
    assert not list(sweep.store.runs.iterdir())


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnsupportedError, match=r"mixerlens\[scale\]"):
        Sweep(configs(1), tmp_path, run=quick).run("ray")


@pytest.mark.slow
def test_processes_give_the_same_rows_also_when_they_are_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "ATTEMPTS", 2)
    marks = tmp_path / "marks"
    marks.mkdir()
    runs = configs(5, options={"marks": str(marks)})
    expected = Sweep(runs, tmp_path / "here", run=quick).run().rows
    found = Sweep(runs, tmp_path / "there", run=dies).run(workers=2)
    assert [len(list(marks.glob(f"{seed}-*"))) for seed in range(5)] == [1, 2, 2, 1, 1]
    assert found.rows == [row for row in expected if row["seed"] != 2] and found.computed == 4
    assert found.failures == [f"{runs[2].label}: its process died 2 times (killed, or out of memory?)"]
    assert not multiprocessing.active_children()
