"""The frozen account: exact at any depth, the gradient by finite differences, and what either says of a change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from explicit.dense import Dense, tiny
from mixerlens.errors import InputError
from mixerlens.explicit.frozen import frozen_account
from mixerlens.models.s4d import load_s4d


@pytest.mark.parametrize(("norm", "layers"), [("layer", 1), ("layer", 4), ("none", 3)])
def test_it_is_exact_at_any_depth_and_through_norms(norm, layers):
    model = tiny(norm=norm, layers=layers, features=4)
    inputs = torch.randn(90, 2, dtype=torch.float64)
    found = frozen_account(model, inputs, 3, draws=1)
    assert found.logit == pytest.approx(float(Dense(model, inputs.numpy()).logits[3]), rel=1e-12)
    assert found.total == pytest.approx(found.logit, rel=1e-12)
    assert len(found.held) == layers * (3 if norm == "layer" else 2)


def test_the_gradient_is_that_of_finite_differences():
    model = tiny(norm="layer", layers=2)
    inputs = torch.randn(11, 2, dtype=torch.float64)
    found = frozen_account(model, inputs, 1, against=0)
    for t, c in ((0, 0), (5, 1), (10, 0)):
        around = []
        for step in (1e-5, -1e-5):
            moved = inputs.numpy().copy()
            moved[t, c] += step
            logits = Dense(model, moved).logits
            around.append(logits[1] - logits[0])
        assert float(found.gradient[t, c]) == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-6, abs=1e-9)
    assert torch.equal(found.gradient_times_input, found.gradient * inputs)


def test_changes_are_those_of_the_model(digits_s4d, digits):
    """The gradient predicts a small perturbation, the account does not: by the model itself, in numpy."""
    model = load_s4d(digits_s4d).double()
    inputs = digits[2].double()
    found = frozen_account(model, inputs, size=1e-3, draws=4, seed=7)
    noise = torch.randn(4, 64, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    noise *= 1e-3 * float(np.sqrt((inputs.numpy() ** 2).mean()))
    before = Dense(model, inputs.numpy()).logits
    target = int(before.argmax())
    changes = [Dense(model, (inputs + one).numpy()).logits[target] - before[target] for one in noise]
    assert found.change.numpy() == pytest.approx(np.array(changes), rel=1e-9, abs=1e-13)
    assert found.missed_jacobian < 0.05 < 0.3 < found.missed_account
    assert "0.001 of the input's root mean square, 4 draws, seed 7" in found.perturbation


def test_what_the_page_says_of_the_specimen(digits_s4d, digits):
    """Exact in its sum to 1e-14, wrong by 29 to 57 % about a change of 1 %, on every digit there is."""
    model = load_s4d(digits_s4d, torch.float64)
    accounts = [frozen_account(model, one) for one in digits.double()]
    with torch.no_grad():
        logits = model(digits.double()).amax(1)
    assert [found.total for found in accounts] == pytest.approx(logits.tolist(), rel=1e-14)
    missed, slope = ([getattr(found, name) for found in accounts] for name in ("missed_account", "missed_jacobian"))
    assert min(missed) > 0.29 and max(missed) < 0.57 and np.median(missed) == pytest.approx(0.41, abs=0.005)
    assert min(slope) > 0.005 and max(slope) < 0.042


def test_a_linear_model_misses_nothing():
    found = frozen_account(tiny(activation="identity", output="none", layers=3), torch.randn(30, 2), 0)
    assert found.held == () and found.missed_account < 1e-11 and found.missed_jacobian < 1e-11


def test_an_input_of_zeros_is_not_perturbed_and_says_so():
    found = frozen_account(tiny(), torch.zeros(8, 2), 0)
    assert math.isnan(found.missed_account) and found.to_json()["missed_account"] is None
    assert found.total == pytest.approx(found.logit, rel=1e-12)


@pytest.mark.parametrize("options", [{"size": 0.0}, {"draws": 0}, {"size": math.nan}])
def test_perturbations_that_are_none(options):
    with pytest.raises(InputError, match="positive size and at least one draw"):
        frozen_account(tiny(), torch.zeros(8, 2), 0, **options)
