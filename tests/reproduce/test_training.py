"""Training is a function of the seed, keeps the best look, freezes what it says, and looks at no test sequence."""

from __future__ import annotations

from dataclasses import replace

import torch

from mixerlens.data import DataSet
from mixerlens.reproduce.training import Recipe, build, right, train

RECIPE = Recipe(steps=12, batch=16, features=4, modes=4, looks=4, patience=4)


def test_the_same_seed_gives_the_same_model_and_another_another(tiny):
    first, second, other = (train(tiny, RECIPE, {}, seed) for seed in (0, 0, 1))
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.history == second.history != other.history
    assert [look["step"] for look in first.history] == [3, 6, 9, 12]


def test_the_best_look_is_kept(tiny):
    done = train(tiny, replace(RECIPE, rate=0.3), {}, 0)
    order = [(look["validation_correct"], -look["validation_loss"]) for look in done.history]
    assert done.best == done.history[order.index(max(order))]
    assert int(right(done.model, tiny.validation).sum()) == done.best["validation_correct"]


def test_training_ends_once_nothing_gets_better(tiny):
    patient = replace(RECIPE, steps=40, looks=20, patience=2, rate=1e-30, system_rate=1e-30, weight_decay=0.0)
    done = train(tiny, patient, {}, 0)
    assert done.history[-1]["step"] == 6 and done.best["step"] == 2  # one look, and two that were no better


def test_frozen_systems_do_not_move_and_the_rest_does(tiny):
    done = train(tiny, RECIPE, {}, 0, frozen=True)
    before, after = done.initial.state_dict(), done.model.state_dict()
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == (".s4d." in name), name
    free = train(tiny, RECIPE, {}, 0)
    assert not torch.equal(free.model.state_dict()["layers.0.s4d.frequency"], before["layers.0.s4d.frequency"])


def test_the_test_part_changes_nothing(tiny):
    blind = DataSet(**{**vars(tiny), "test": tiny.train.first(1)})
    assert train(blind, RECIPE, {}, 0).history == train(tiny, RECIPE, {}, 0).history


def test_the_identity_decoder_is_linear_and_cannot_learn_what_a_gelu_can(tiny):
    recipe = Recipe(steps=150, batch=16, features=8, modes=4, looks=6)
    linear = train(tiny, recipe, {"activation": "identity", "output": "linear"}, 0).model
    x, y = tiny.test.inputs[:2]
    both = torch.stack([x, y, x + y, torch.zeros_like(x)])
    a, b, sum_, zero = linear(both)
    assert torch.allclose(a + b, sum_ + zero, atol=1e-5)
    full = train(tiny, recipe, {}, 0).model
    a, b, sum_, zero = full(both)
    assert not torch.allclose(a + b, sum_ + zero, atol=1e-2)
    assert int(right(full, tiny.test).sum()) >= 34 > 28 >= int(right(linear, tiny.test).sum())


def test_the_last_step_is_what_the_other_pool_reads(tiny):
    model = build(tiny, RECIPE, {"pool": "last", "activation": "identity", "output": "none"}, 0)
    x = tiny.test.inputs[:1].clone()
    block = model.layers[0]
    seen = model.encoder(x)
    by_hand = model.head((seen + block.s4d(seen))[:, -1])
    assert torch.allclose(model(x), by_hand, atol=1e-6)
