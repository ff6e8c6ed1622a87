"""Processes of this machine: the same rows as one after the other, also when one is killed."""

from __future__ import annotations

import multiprocessing
import sys

import pytest

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.sweep import Sweep
from sweep.doubles import always_dies, configs, dies_once, quick


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
def test_processes_give_the_same_rows_also_when_one_is_killed(tmp_path):
    before = set(multiprocessing.active_children())
    runs = configs(4, options={"marks": str(tmp_path)})
    expected = Sweep(runs, tmp_path / "here", run=quick).run().rows
    found = Sweep(runs, tmp_path / "there", run=dies_once).run(workers=2)
    assert (tmp_path / runs[1].id).exists()  # it was killed
    assert found.rows == expected and found.computed == 4 and not found.failures
    lost = Sweep(runs, tmp_path / "lost", run=always_dies).run(workers=2)
    assert [row["seed"] for row in lost.rows] == [0, 2, 3]
    assert len(lost.failures) == 1 and "its process died 3 times" in lost.failures[0]
    assert set(multiprocessing.active_children()) == before
