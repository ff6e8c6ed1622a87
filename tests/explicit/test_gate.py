"""The gate form against dense matrices, one run an input number; and what makes it refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from explicit.dense import Dense, tiny
from mixerlens.errors import InputError, MemoryBudgetError, UnsupportedError
from mixerlens.explicit.gate import gate_form
from mixerlens.explicit.layer import record
from mixerlens.models.s4d import load_s4d

ACTIVATIONS = ["gelu", "gelu_tanh", "silu", "identity"]
OUTPUTS = ["glu", "linear", "none"]
NORMS = ["none", "layer"]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_attribution_is_the_affine_map_of_the_held_pass(activation, output, norm, layers):
    model = tiny(activation=activation, output=output, norm=norm, layers=layers, explicit_b=layers == 2)
    inputs = torch.randn(13, 2, dtype=torch.float64)
    dense = Dense(model, inputs.numpy())
    found = gate_form(record(model, inputs, 2))
    slopes, constant = dense.affine(2)
    size = np.abs(slopes).max()
    assert np.abs(found.coefficients.numpy() - slopes).max() < 1e-12 * size
    assert abs(found.constant - constant) < 1e-12 * max(size, abs(constant))
    assert torch.equal(found.contributions, found.coefficients * inputs)
    assert abs(found.total - dense.logits[2]) < 1e-12 * max(abs(dense.logits[2]), size)


def test_a_linear_model_has_its_gradient_for_coefficients():
    """Nothing is held then: a finite step changes the logit as the account says."""
    model = tiny(activation="identity", output="linear", layers=2)
    inputs, step = torch.randn(2, 21, 2, dtype=torch.float64)
    found = gate_form(record(model, inputs, 1))
    with torch.no_grad():
        before, after = model(torch.stack([inputs, inputs + 3 * step]))[:, 1]
    assert float(3 * (found.coefficients * step).sum()) == pytest.approx(float(after - before), rel=1e-12)


def test_a_difference_of_logits_is_the_difference_of_the_accounts():
    model = tiny(layers=2, norm="layer")
    inputs = torch.randn(20, 2, dtype=torch.float64)
    one, other, both = (gate_form(record(model, inputs, *ask)) for ask in ((0,), (3,), (0, 3)))
    assert torch.allclose(both.contributions, one.contributions - other.contributions, rtol=0, atol=1e-14)
    assert both.constant == pytest.approx(one.constant - other.constant, rel=1e-12)
    assert both.question == "the logit of class 0 less that of class 3"


def test_the_trained_specimen(digits_s4d, digits):
    model = load_s4d(digits_s4d).double()
    for inputs in digits[:6]:
        with torch.no_grad():
            logits = model(inputs[None].double())[0]
        found = gate_form(record(model, inputs))
        assert found.question == f"the logit of class {int(logits.argmax())}"
        assert found.total == pytest.approx(float(logits.max()), rel=1e-12)


def test_the_model_stays_as_it_is(digits_s4d, digits):
    model = load_s4d(digits_s4d)
    kept = {name: p.clone() for name, p in model.named_parameters()}
    assert record(model, digits[0]).model is not model
    assert all(p.dtype == torch.float32 and torch.equal(p, kept[name]) for name, p in model.named_parameters())
    wide = model.double()
    assert record(wide, digits[0]).model is wide


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(5, 3), r"2 channels\), not float32 \(5, 3\)"),
        (torch.zeros(0, 2), "time >= 1"),
        (torch.zeros(2, 5, 2), r"one input is floats .*\(2, 5, 2\)"),
        (torch.zeros(5, 2, dtype=torch.int64), "floats .* not int64"),
        (torch.full((5, 2), torch.nan), "NaN or infinite"),
    ],
)
def test_inputs_that_cannot_be_explained(inputs, message):
    with pytest.raises(InputError, match=message):
        record(tiny(), inputs)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ((4,), "target 4: the model has classes 0 .. 3"),
        ((-1,), "target -1"),
        ((0, 9), "against 9: the model has classes 0 .. 3"),
        ((1, 1), "both class 1"),
    ],
)
def test_questions_without_an_answer(ask, message):
    with pytest.raises(InputError, match=message):
        record(tiny(), torch.zeros(5, 2), *ask)


def test_the_predicted_class_is_not_set_against_itself():
    model, inputs = tiny(), torch.ones(5, 2)
    with pytest.raises(InputError, match="is the predicted one: name another"):
        record(model, inputs, against=record(model, inputs).target)


def test_other_models_and_inputs_too_long_are_refused(monkeypatch):
    with pytest.raises(UnsupportedError, match=r"S4D classifiers .* not for Linear"):
        record(torch.nn.Linear(2, 2), torch.zeros(5, 2))
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "100000")
    with pytest.raises(MemoryBudgetError, match="a pass with its gates needs 144000 bytes"):
        record(tiny(), torch.zeros(1000, 2))
