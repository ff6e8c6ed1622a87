"""What is kept and removed, against loops over one sequence and against the library's own accounts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mixerlens.errors import UnsupportedError
from mixerlens.explicit import pair_form, record
from mixerlens.reproduce.parts import _Reader, ablations
from mixerlens.reproduce.training import Recipe, right, train

RECIPE = Recipe(steps=60, batch=16, features=6, modes=4, looks=3)


@pytest.fixture(scope="module")
def full(tiny):
    return train(tiny, RECIPE, {}, 0).model


@pytest.fixture(scope="module")
def plain(tiny):
    return train(tiny, RECIPE, {"output": "linear"}, 1).model


def test_with_everything_kept_it_is_the_model(tiny, full, plain):
    for model in (full, plain):
        found = ablations(model, tiny.train, tiny.test)
        assert found["disagreement"] < 1e-12
        assert (found["realised"]["all"] == right(model.double(), tiny.test).numpy()).all()
        model.float()


def test_waves_alone_are_those_of_the_pair_form(tiny, plain):
    """Slope of every wave and the constant, with the mean of all interactions in the place of this sequence's own."""
    interactions, linear = [], []
    for inputs in tiny.train.inputs:
        account = pair_form(record(plain, inputs, target=1, against=0), segments=4)
        interactions.append(float(account.interactions.sum()))
    for inputs in tiny.test.inputs:
        account = pair_form(record(plain, inputs, target=1, against=0), segments=4)
        linear.append(account.constant + float(account.linear.sum()))
    by_hand = np.array(linear) + np.mean(interactions) > 0
    found = ablations(plain, tiny.train, tiny.test)["realised"]["up to 1"]
    assert (found == (by_hand == tiny.test.labels.numpy().astype(bool))).all()


def test_the_halves_of_order_two_are_sums_over_pairs(tiny, full):
    p = next(_Reader(full).passes(tiny.test.first(2)))
    system, encoder = full.double().layers[0].s4d, full.encoder
    kernel = system.kernel(tiny.time).detach()
    time = tiny.time
    for s in range(2):
        wave = (tiny.test.inputs[s].double() @ encoder.weight.T).detach()  # (time, features)
        launched = torch.zeros(time, time, wave.shape[1], dtype=torch.float64)  # [t, i]: what input i is at time t
        for t in range(time):
            for i in range(t + 1):
                launched[t, i] = (kernel[:, t - i] + (system.D.detach() if i == t else 0)) * wave[i]
        assert torch.allclose(p.x[s], launched.sum(1), atol=1e-12)
        assert torch.allclose(p.diagonal[s], launched.square().sum(1), atol=1e-12)
    full.float()


def test_what_is_removed_leaves_its_mean(tiny, full):
    """The mean of g over training is the same for every part kept, so degree 16 and all agree on a quiet model."""
    reader = _Reader(full)
    p = next(reader.passes(tiny.train))
    assert torch.allclose(p.g, F.gelu(p.y), atol=1e-14)
    found = ablations(full, tiny.train, tiny.test)
    assert found["range"] >= float(p.y.detach().abs().max())
    close = found["realised"]["up to 16"] == found["realised"]["all"]
    assert close.mean() >= 0.95
    assert set(found["mean"]) == set(found["realised"])


def test_models_without_such_parts_are_refused(tiny):
    for options in ({"layers": 2}, {"norm": "layer"}, {"activation": "identity"}):
        model = train(tiny, Recipe(steps=1, batch=4, features=4, modes=2), options, 0).model
        with pytest.raises(UnsupportedError, match="one block with an activation and without a norm"):
            ablations(model, tiny.train, tiny.test)
