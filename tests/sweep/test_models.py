"""The trained models of a sweep are kept whole, each with the run that it is of."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict

import pytest
import torch

import mixerlens as ml
from mixerlens import tasks
from mixerlens.design import load, preset
from mixerlens.errors import InputError
from mixerlens.files import WriteError
from mixerlens.sweep import RunConfig, Sweep, models, train
from mixerlens.sweep.models import train_whole

OPTIONS = asdict(tasks.make("recall", "small", length=8).options)
SMALL = {"steps": 3, "batch": 4, "features": 8, "mlp_ratio": 1.0, "looks": 1, "held": 8, "tested": 8}


def runs(count=2, name="mine", **changed):
    spec = preset("gated_delta_net", heads=2, dim=4, width=4)
    return [RunConfig(name, (spec, spec), "recall", OPTIONS, seed=seed, **(SMALL | changed)) for seed in range(count)]


def folders(tmp_path):
    return sorted(path.name for path in (tmp_path / "models").iterdir())


def sweep(tmp_path, configs, **named):
    return Sweep(configs, tmp_path / "out", keep=tmp_path / "models", **named)


def test_every_model_is_the_one_that_was_tested_and_opens_like_any_other(tmp_path):
    configs = runs()
    found = sweep(tmp_path, configs).run()
    assert folders(tmp_path) == sorted(f"mine-recall-seed-{c.seed}-lr-0.003-wd-0-{c.id}" for c in configs)
    for config, row in zip(configs, found.rows, strict=True):
        path = tmp_path / "models" / f"mine-recall-seed-{config.seed}-lr-0.003-wd-0-{config.id}"
        trained = {}
        train(config, inspect=lambda task, model, into=trained: into.update(model.state_dict()))
        kept = load(path)
        for name, tensor in kept.state_dict().items():
            assert torch.equal(tensor, trained[name]), name
        task = tasks.make("recall", **OPTIONS)
        batch = task.batch("test", 0, 8, config.seed)
        with torch.no_grad():
            assert task.score(kept(batch.inputs), batch.targets) == (row["test_correct"], row["test_total"])
        assert ml.open(path).trace(batch.inputs[:1]).verify(checks=["operator"]).passed
    assert sweep(tmp_path, configs).run().computed == 0


def timeless(rows):
    return [{name: x for name, x in row.items() if name not in ("seconds", "cpu_seconds")} for row in rows]


def test_a_stored_run_without_its_model_is_trained_again_and_said(tmp_path):
    configs = runs()
    first = Sweep(configs, tmp_path / "out").run()
    wanted = sweep(tmp_path, configs)
    reasons = wanted.unkept()
    assert reasons == {config.id: f"it is not in {tmp_path / 'models'}" for config in configs}
    found = wanted.run()
    assert found.computed == 2 and wanted.unkept() == {}
    assert timeless(found.rows) == timeless(first.rows)


def lost(path):
    (path / "model.safetensors").unlink()


def cut(path):
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[: len(data) // 2])


def nameless(path):
    (path / "run.json").write_text("{}")


def foreign(path):
    """The row that stands there is not the stored one."""
    text = (path / "run.json").read_text()
    (path / "run.json").write_text(text.replace('"test_correct":', '"test_correct":9'))


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lost, "has no model"), (cut, "truncated"), (nameless, "run.json is missing or"), (foreign, "another training")],
)
def test_a_damaged_model_does_not_count(tmp_path, damage, said):
    (config,) = runs(1)
    made = sweep(tmp_path, [config])
    made.run()
    path = made.models.path(config)
    whole = {each.name: each.read_bytes() for each in path.iterdir()}
    damage(path)
    (reason,) = made.unkept().values()
    assert said in reason
    assert made.run().computed == 1 and made.unkept() == {}
    assert whole.keys() == {each.name for each in path.iterdir()} == {"config.json", "model.safetensors", "run.json"}
    assert (path / "model.safetensors").read_bytes() == whole["model.safetensors"]


def test_a_full_disk_leaves_no_half_model_and_no_row_without_one(tmp_path, monkeypatch):
    configs, flushed = runs(), models.flushed
    made = sweep(tmp_path, configs)

    def full(path, data):
        if len(folders(tmp_path)) == 2 and path.name == "model.safetensors":
            flushed(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        flushed(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(models, "flushed", full)
        with pytest.raises(
            WriteError, match=r"cannot write .*seed-1.*: No space left on device; 1 of 2 runs are stored"
        ):
            made.run()
    assert folders(tmp_path) == [made.models.path(configs[0]).name]
    assert made.run().computed == 1 and len(folders(tmp_path)) == 2


def test_a_model_whose_run_was_not_stored_any_more_is_written_again(tmp_path, monkeypatch):
    """Ended between the two."""
    (config,) = runs(1)
    made = sweep(tmp_path, [config])

    def interrupted(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(made.store, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.run()
    assert len(folders(tmp_path)) == 1 and made.stored().rows == []
    assert made.run().computed == 1 and len(folders(tmp_path)) == 1 and made.unkept() == {}


def test_a_run_that_fails_when_it_is_trained_again_keeps_its_row(tmp_path):
    configs = runs()
    Sweep(configs, tmp_path / "out").run()

    def fails(config):
        raise InputError("no luck")

    found = sweep(tmp_path, configs, run=fails).run()
    assert len(found.rows) == 2 and found.computed == 0 and len(found.failures) == 2 and folders(tmp_path) == []


@pytest.mark.parametrize("name", ["../up", "/etc", "..", "a" * 900, "Zwölf Töne 東京"])
def test_no_name_leaves_the_folder(tmp_path, name):
    (config,) = runs(1, name)
    path = models.Models(tmp_path).path(config)
    assert path.parent == tmp_path and path.name.endswith(config.id) and len(os.fsencode(path.name)) < 200
    assert not path.name.startswith(".") and path.name.isascii()


def test_a_folder_that_takes_no_models_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write below"):
        Sweep(runs(1), tmp_path / "out", keep=tmp_path / "file", run=pytest.fail).run()


@pytest.mark.slow
@pytest.mark.parametrize("engine", [{"workers": 2}, {"engine": "ray", "workers": 2, "address": "local"}])
def test_every_engine_keeps_the_same_models(tmp_path, engine):
    if "engine" in engine:
        pytest.importorskip("ray")
    configs = runs(3)
    here, there = (Sweep(configs, tmp_path / name, keep=tmp_path / name / "models") for name in ("here", "there"))
    here.run()
    assert there.run(**engine).computed == 3 and there.unkept() == {}
    for config in configs:
        one, two = (each.models.path(config) / "model.safetensors" for each in (here, there))
        assert one.read_bytes() == two.read_bytes()


def test_train_whole_is_train_and_the_files(tmp_path):
    (config,) = runs(1)
    found = train_whole(config)
    assert sorted(found.files) == ["config.json", "model.safetensors"]
    assert timeless([found.columns()]) == timeless([train(config).columns()])
