"""Every mistake in a command is one clear line before anything runs."""

from __future__ import annotations

import json

import pytest

from mixerlens.design import preset
from mixerlens.errors import InputError
from mixerlens.sweep.plan import check, plan, read_grid, read_options, read_seeds, read_specs, read_tasks


def test_the_runs_are_every_combination_in_an_order_that_serves_an_interruption():
    models = {name: (preset(name, dim=4),) for name in ("retnet", "mamba2")}
    runs = plan(models, {"recall": {"a": 1}, "mqar": {}}, [0, 5], {"lr": [1e-3, 3e-3], "wd": [0.1]}, depth=3, steps=7)
    assert len({run.id for run in runs}) == len(runs) == 2 * 2 * 2 * 2
    assert [run.seed for run in runs] == [0] * 8 + [5] * 8
    assert {run.wd for run in runs} == {0.1} and {run.lr for run in runs} == {1e-3, 3e-3}
    assert all(len(run.layers) == 3 and run.steps == 7 for run in runs)
    assert {run.task: run.options for run in runs} == {"recall": {"a": 1}, "mqar": {}}


def test_specifications_take_turns_in_the_layers(tmp_path):
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({"name": "mine", "heads": 2, "dim": 4}))
    models = read_specs(["retnet+mamba2", str(mine)])
    assert list(models) == ["retnet+mamba2", "mine"]
    hybrid, single = plan(models, {"recall": {}}, [0], depth=3)
    assert [spec.name for spec in hybrid.layers] == ["retnet", "mamba2", "retnet"]
    assert [(spec.name, spec.dim) for spec in single.layers] == [("mine", 4)] * 3
    with pytest.raises(InputError, match="1 layers: a model here needs 2 or more"):
        plan(models, {"recall": {}}, [0], depth=1)


def test_a_file_may_be_joined_and_may_have_a_plus_in_its_name(tmp_path):
    for name in ("mine", "my+own"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name, "dim": 4}))
    joined = read_specs([f"retnet+{tmp_path / 'mine.json'}", str(tmp_path / "my+own.json")])
    assert [[spec.name for spec in specs] for specs in joined.values()] == [["retnet", "mine"], ["my+own"]]


@pytest.mark.parametrize("name", ["recall", "noisy_recall", "fuzzy_recall"])
def test_a_mixer_that_sees_later_tokens_is_not_asked_what_they_say(name):
    for model in ("encoder_attention", "retnet+encoder_attention"):
        with pytest.raises(InputError, match=f"encoder_attention sees later tokens, which hold the answers of {name}"):
            plan(read_specs([model]), read_tasks(name, "small"), [0])
    assert plan(read_specs(["softmax_attention"]), read_tasks(name, "small"), [0])
    assert plan(read_specs(["encoder_attention"]), read_tasks("compression,digits,parity", "small"), [0])


def test_options_are_complete_so_that_another_default_is_another_run():
    found = read_tasks("recall, parity", "small", ["length=12", "parity.test_length=20"])
    assert list(found) == ["recall", "parity"]
    assert found["recall"]["length"] == 12 and found["parity"] == found["parity"] | {"length": 12, "test_length": 20}
    assert found["recall"].keys() > {"length"}
    assert read_tasks("recall", "published")["recall"] != read_tasks("recall", "small")["recall"]


def test_values_of_options_are_numbers_words_true_false_or_none():
    given = ["a=3", "b=0.5", "c=true", "d=None", "e=word", "two.f=1"]
    found = read_options(given, ["one", "two"])
    assert found["one"] == {"a": 3, "b": 0.5, "c": True, "d": None, "e": "word"}
    assert found["two"] == found["one"] | {"f": 1}


def test_a_grid_has_numbers_of_the_right_kind():
    assert read_grid(["lr=1e-3, 3e-3", "steps=100,200"]) == {"lr": [1e-3, 3e-3], "steps": [100, 200]}


@pytest.mark.parametrize(
    ("read", "given", "said"),
    [
        (read_grid, ["lr"], r"write NAME=VALUE,VALUE with a name of lr, wd"),
        (read_grid, ["rate=1"], r"--grid rate=1: write NAME=VALUE"),
        (read_grid, ["lr="], "a value is missing"),
        (read_grid, ["lr=1e-3,,1e-2"], "a value is missing"),
        (read_grid, ["lr=fast"], "'fast' is no number"),
        (read_grid, ["steps=1.5"], "'1.5' is no whole number"),
        (read_grid, ["lr=1e-3,0.001"], "a value stands there twice"),
        (read_grid, ["lr=1", "lr=2"], "lr stands there twice"),
        (read_seeds, "0,a", "'a' is no whole number"),
        (read_seeds, "1,1", "different numbers"),
        (read_seeds, "-1", "from 0 on"),
        (read_seeds, "", "is no whole number"),
        (lambda text: read_tasks(text, "small"), "recall,recall", "stands there twice"),
        (lambda text: read_tasks(text, "small"), "poetry", "'poetry' is no task"),
        (lambda text: read_tasks(text, "small"), "recall,", "'' is no task"),
        (lambda text: read_tasks(text, "huge"), "recall", "preset must be one of"),
        (lambda given: read_tasks("recall", "small", given), ["depth=3"], "has no option 'depth'"),
        (lambda given: read_tasks("recall", "small", given), ["length=long"], "length must be a whole number"),
        (lambda given: read_tasks("recall", "small", given), ["mqar.pairs=3"], "'mqar' is not among the tasks recall"),
        (lambda given: read_tasks("recall", "small", given), ["length"], "write NAME=VALUE"),
        (lambda given: read_tasks("recall", "small", given), ["length=8", "recall.length=9"], "stands there twice"),
        (read_specs, ["perceptron"], "'perceptron'"),
        (read_specs, ["retnet", "retnet"], "two models are called retnet"),
        (read_specs, [], "name a specification"),
        (read_specs, ["nowhere.yaml"], "nowhere.yaml"),
        (read_specs, ["retnet+"], r"retnet\+: a name is missing after \+"),
        (read_specs, ["+retnet"], r"\+retnet: a name is missing before \+"),
    ],
)
def test_what_is_wrong_is_said(read, given, said):
    with pytest.raises((InputError, OSError), match=said):
        read(given)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_numbers_outside_their_range_are_refused_before_anything_runs(value):
    with pytest.raises(InputError, match=r"lr .*: a number above 0"):
        plan(read_specs(["retnet"]), {"recall": {}}, [0], {"lr": [value]})


def test_a_model_that_cannot_take_a_task_is_named():
    runs = plan(read_specs(["retnet"]), read_tasks("recall", "small"), [0, 1], positions="painted")
    with pytest.raises(InputError, match=r"retnet on recall: positions must be one of"):
        check(runs)
    runs = plan(read_specs(["retnet"]), read_tasks("recall", "small", ["length=8"]), [0, 1], features=8)
    check(runs)
