"""Every run of a sweep is computed once, whatever happens in between."""

from __future__ import annotations

import sys

import pytest

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.sweep import RunConfig, Sweep
from sweep.doubles import config, configs, odd_seeds_fail, quick, result


def test_a_second_call_computes_nothing_and_a_wider_sweep_only_what_is_new(tmp_path):
    calls: list[RunConfig] = []

    def run(one):
        calls.append(one)
        return result(one)

    first = Sweep(configs(3), tmp_path, run=run).run()
    assert first.computed == 3 and Sweep(configs(3), tmp_path, run=run).run().computed == 0
    wider = Sweep(configs(5), tmp_path, run=run).run()
    assert wider.computed == 2 and wider.rows[:3] == first.rows and len(calls) == 5
    assert Sweep(configs(4), tmp_path, run=run).stored().rows == wider.rows[:4]


def test_a_changed_recipe_is_another_run_and_the_old_rows_stay_out(tmp_path):
    Sweep(configs(2), tmp_path, run=quick).run()
    found = Sweep(configs(2, steps=7), tmp_path, run=quick).run()
    assert found.computed == 2 and {row["steps"] for row in found.rows} == {7}


def test_an_interruption_keeps_what_is_finished(tmp_path):
    def interrupted(one):
        if one.seed == 2:
            raise KeyboardInterrupt
        return result(one)

    sweep = Sweep(configs(4), tmp_path, run=interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.run()
    assert sweep.standing().startswith(f"2 of 4 runs are stored in {tmp_path}")
    assert Sweep(configs(4), tmp_path, run=quick).run().computed == 2


def test_a_run_that_fails_is_named_not_stored_and_tried_again(tmp_path):
    found = Sweep(configs(4), tmp_path, run=odd_seeds_fail).run()
    assert [row["seed"] for row in found.rows] == [0, 2]
    reasons = [line.split(": ", 1)[1] for line in found.failures]
    assert reasons == ["seed 1 is odd", "seed 3 is odd"]
    again = Sweep(configs(4), tmp_path, run=quick).run()
    assert again.computed == 2 and [row["seed"] for row in again.rows] == [0, 1, 2, 3]


def test_progress_counts_stored_runs_and_never_goes_back(tmp_path):
    Sweep(configs(2), tmp_path, run=quick).run()
    seen = []
    Sweep(configs(4), tmp_path, run=quick).run(progress=lambda *given: seen.append(given))
    done = [each[1] for each in seen]
    assert done == sorted(done) and (done[0], done[-1]) == (2, 4) and {each[2] for each in seen} == {4}
    assert {each[0] for each in seen[1:]} == {one.label for one in configs(4)[2:]}


def test_a_sweep_without_runs_or_with_one_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run"):
        Sweep([], tmp_path)
    with pytest.raises(InputError, match=r"one recall seed 0 .* is asked for twice"):
        Sweep([config(), config()], tmp_path)


def test_without_pyarrow_nothing_is_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match=r"mixerlens\[design\]"):
        Sweep(configs(1), tmp_path / "out", run=quick).run()
    assert not (tmp_path / "out").exists()
