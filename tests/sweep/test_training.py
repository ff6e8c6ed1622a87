"""A training run is a function of its configuration; what it says of its accuracy is what the kept model does."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixerlens.design import preset
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.sweep import RunConfig, train
from mixerlens.sweep.config import MEASURED
from mixerlens.sweep.plan import read_tasks
from mixerlens.sweep.training import _optimizer, _rate, build

SPEC = preset("gated_delta_net", heads=2, dim=4, width=4)


def small(task="recall", length=8, **changed) -> RunConfig:
    options = read_tasks(task, "small", [f"length={length}"])[task]
    sizes = {"steps": 12, "batch": 8, "features": 8, "looks": 3, "held": 20, "tested": 30}
    return RunConfig("own", (SPEC,), task, options, **(sizes | changed))


def decided(config):
    return {name: value for name, value in train(config).columns().items() if name not in MEASURED}


def test_the_same_run_twice_is_the_same_to_the_last_bit():
    first = decided(small())
    torch.manual_seed(7)  # whatever was drawn before
    np.random.default_rng().random()
    assert decided(small()) == first
    assert decided(small(seed=1)) != first


def test_torchs_state_and_threads_are_left_alone():
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(small(steps=2))
        assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_model_learns_what_it_can_and_the_best_look_is_tested():
    config = small("parity", length=4, steps=100, batch=32, looks=10, lr=1e-2, held=64, tested=8)
    found = train(config)
    assert found.status == "finished" and found.reason is None and found.steps_done == 100
    looks = {look["step"]: look for look in found.history}
    assert list(looks) == list(range(0, 101, 10))
    best = looks[found.best_step]
    assert best["correct"] == max(look["correct"] for look in found.history) == found.validation_correct
    assert min(look["loss"] for look in looks.values() if look["correct"] == best["correct"]) == best["loss"]
    assert found.validation_correct / found.validation_total > looks[0]["correct"] / looks[0]["total"] + 0.15
    assert type(found.chance) is float and 0.5 <= found.chance < 0.52


def test_what_is_tested_is_the_kept_model_on_the_test_split_of_the_seed():
    kept = []
    config = small(seed=3, tested=30)
    found = train(config, inspect=lambda task, model: kept.append((task, model)))
    ((task, model),) = kept
    batch = task.batch("test", 0, 30, 3)
    logits = model(batch.inputs).detach()
    asked = batch.targets != -100
    assert int((logits.argmax(-1) == batch.targets)[asked].sum()) == found.test_correct
    assert int(asked.sum()) == found.test_total
    rights, counts = ((logits.argmax(-1) == batch.targets) & asked).sum(1).double(), asked.sum(1).double()
    assert found.test_sequences == 30
    squares = float(((rights - found.test_correct / found.test_total * counts) ** 2).sum())
    assert found.test_squares == pytest.approx(squares, rel=1e-12)
    loss = torch.nn.functional.cross_entropy(logits[asked], batch.targets[asked])
    assert found.test_loss == pytest.approx(float(loss), rel=1e-5)


def test_steps_are_adamw_on_the_batches_of_the_training_split():
    """Three steps written out with torch alone."""
    config = small(steps=3, looks=3, warmup=0.4, wd=0.1, clip=0.5, held=4, tested=4)
    task, model = build(config)
    matrices = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    others = [p for p in model.parameters() if not any(p is q for q in matrices)]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}])
    expected = []
    for step, share in enumerate((1.0, 1.0, 0.5)):  # int(0.4 * 3) = 1 step of warm-up, then cos(0), cos(pi / 2)
        batch = task.batch("train", step, 8, 0)
        loss = task.loss(model(batch.inputs), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * share
        optimizer.step()
        expected.append((step + 1, float(loss.detach()), float(norm)))
    seen = []
    train(config, watch=lambda *given: seen.append(given))
    assert np.allclose(seen, expected, rtol=1e-5)


def test_the_rate_warms_up_and_falls_to_zero():
    config = small(steps=100, warmup=0.1)
    rates = [_rate(step, config) for step in range(100)]
    assert rates[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert rates[10] == 1 and rates[55] == pytest.approx(0.5) and 0 < rates[99] < 1e-3
    assert _rate(0, small(steps=1)) == 1


def test_only_matrices_of_linear_maps_decay():
    config = small(wd=0.2)
    _, model = build(config)
    decayed, kept = _optimizer(model, config).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.2, 0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert "embedding.weight" in {names[id(p)] for p in kept["params"]}
    assert "head.weight" in {names[id(p)] for p in decayed["params"]}
    assert len(decayed["params"]) + len(kept["params"]) == len(names)


def test_a_run_that_diverges_is_a_result():
    seen = []
    found = train(small(lr=1e30, warmup=0.0), watch=lambda step, loss, norm: seen.append((step, loss)))
    assert found.status == "diverged" and found.reason and found.steps_done < 12
    assert not math.isfinite(seen[-1][1]) and len(seen) == found.steps_done + 1
    row = found.columns()
    assert json.dumps(row, allow_nan=False) and row["test_total"] > 0 and found.best_step <= found.steps_done
    assert 0 <= row["test_accuracy"] <= 1


def test_a_split_that_ends_is_used_once():
    """Digits have 359 test images or so: asking for more gives each of them once."""
    options = read_tasks("digits", "small")["digits"]
    config = RunConfig("own", (SPEC,), "digits", options, steps=1, batch=64, features=8, looks=1, held=10**6, tested=5)
    found = train(config)
    task, _ = build(config)
    assert found.validation_total == task.examples("validation")


def test_without_accelerate_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UnsupportedError, match=r"mixerlens\[design\]"):
        train(small())


def test_a_task_that_there_is_not_and_options_that_are_not_complete_are_refused():
    with pytest.raises(InputError, match="'poetry' is no task"):
        train(RunConfig("own", (SPEC,), "poetry"))
    with pytest.raises(InputError, match=r"options of recall: .*vocabulary.* missing"):
        train(RunConfig("own", (SPEC,), "recall", {"length": 8}))


def test_the_state_is_what_the_layers_carry_and_missing_where_it_grows():
    """4 x 4 numbers a head in float64; the convolutions keep three tokens of 2 heads x 3 vectors x 4 in float32."""
    plain = preset("linear_attention", heads=2, dim=4, width=4)
    assert train(replace(small(steps=1), layers=(plain, SPEC))).state_bytes == 2 * (2 * 16 * 8) + 3 * 24 * 4
    softmax = preset("softmax_attention", heads=2, dim=4, width=4)
    assert train(replace(small(steps=1), layers=(plain, softmax))).state_bytes is None
