"""The whole explanation: what it adds up to, what is refused, and that its parts agree."""

from __future__ import annotations

import json
import math

import pytest
import torch

import mixerlens as ml
from explicit.dense import Dense, tiny
from mixerlens.errors import InputError
from mixerlens.explicit import explain
from mixerlens.explicit.explain import NotCertifiedError
from mixerlens.models.s4d import load_s4d


def test_the_trained_specimen(digits_s4d, digits):
    model = load_s4d(digits_s4d)
    inputs = digits[4]
    dense = Dense(load_s4d(digits_s4d, torch.float64), inputs.double().numpy()).logits
    first, second = dense.argsort()[::-1][:2].tolist()
    for ask, logit in (({}, dense[first]), ({"against": second}, dense[first] - dense[second])):
        found = explain(model, inputs, **ask, remove=False)
        assert (found.target, found.predicted, found.removal) == (first, first, None)
        assert found.logit == pytest.approx(logit, rel=1e-12)
        for account in (found.pairs, found.frozen):
            assert account.total == pytest.approx(logit, rel=1e-12)
        assert found.relative_error < 1e-14
        with torch.no_grad():
            stored = model(inputs[None])[0]
        want = float(stored[first] - (stored[second] if ask else 0))
        assert found.logit_as_stored == want and 0 < abs(want - logit) < 1e-4 and found.dtype == "float32"


@pytest.mark.parametrize("baseline", [None, torch.tensor([0.3, -0.2])])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_the_linear_waves_forwards_and_backwards(norm, baseline):
    """A segment's wave carried forwards is the sum of the coefficients found backwards."""
    found = explain(tiny(norm=norm, layers=3), torch.randn(100, 2), segments=7, baseline=baseline, removed_pairs=0)
    by_segment = [part.sum() for part in found.linear_waves.split(torch.tensor(found.pairs.borders).diff().tolist())]
    assert found.pairs.linear[:-1].tolist() == pytest.approx([float(x) for x in by_segment], rel=1e-10, abs=1e-13)
    assert found.removal is not None and len(found.removal.effects) == 7


def test_the_largest_pairs():
    found = explain(tiny(), torch.randn(30, 2), 2, segments=4, remove=False)
    pairs = found.pairs.interactions
    every = sorted(((g, k, float(pairs[g, k] + pairs[k, g])) for g in range(5) for k in range(g + 1, 5)),
                   key=lambda row: -abs(row[2]))  # fmt: skip
    for got, want in zip(found.top_pairs(3), every, strict=False):
        assert got[:2] == want[:2] and got[2] == pytest.approx(want[2], rel=1e-12)
    assert len(found.top_pairs(3)) == 3 and len(found.top_pairs(99)) == 10


def test_json_is_strict_and_whole():
    done = []
    found = explain(tiny(), torch.randn(12, 2), segments=3, hessian=True, progress=lambda *at: done.append(at))
    printed = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert {"constant", "linear", "interactions", "held", "borders"} <= set(printed["pairs"])
    assert printed["total"] == pytest.approx(printed["logit"], rel=1e-12)
    assert len(printed["frozen"]["contributions"]) == len(printed["linear_waves"]) == 12
    assert len(printed["removal"]["synergy"]) == 3 and len(printed["removal"]["curvature"]) == 3
    assert done[-1] == (6, 6)


def test_an_account_that_does_not_add_up_is_refused(monkeypatch):
    """As with inputs that overflow, and with a model that is not what the account takes it for."""
    with pytest.raises(NotCertifiedError, match=r"sums to (nan|inf|-inf), the model gives"):
        explain(tiny(), torch.full((9, 2), 1.7e308, dtype=torch.float64), 0, remove=False)
    model = tiny()
    plain = model.layers[0].activation
    monkeypatch.setattr(type(model.layers[0]), "forward", lambda self, x: x + 1.000001 * plain(self.s4d(x)))
    with pytest.raises(NotCertifiedError, match=r"of its size apart, more than 1e-10, so it is refused"):
        explain(model, torch.randn(9, 2), 0, remove=False)


def test_a_head_of_zeros_has_no_error():
    model = tiny()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    found = explain(model, torch.randn(9, 2), 0, segments=3)
    assert found.relative_error == 0 == found.total
    assert math.isnan(found.removal.effects_rank_correlation)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("log_decay", [-745.0, -800.0])
def test_a_mode_that_neither_decays_nor_turns(log_decay):
    model, inputs = tiny(layers=2), torch.randn(150, 2, dtype=torch.float64)
    with torch.no_grad():
        for layer in model.layers:
            layer.s4d.log_decay[:, 0] = log_decay
            layer.s4d.frequency[:, 0] = 0
    found = explain(model, inputs, 1, segments=5, removed_pairs=0)
    assert found.relative_error < 1e-13 and math.isfinite(found.total)


@pytest.mark.parametrize("given", [1.0, True, -1, 4, "1"])
def test_a_class_is_a_whole_number(given):
    for ask in ({"target": given}, {"target": 2, "against": given}):
        with pytest.raises(InputError, match=rf"(target|against) {given}: the model has classes 0 \.\. 3"):
            explain(tiny(), torch.randn(9, 2), **ask, remove=False)
    assert explain(tiny(), torch.randn(9, 2), torch.tensor(3), remove=False).to_json()["target"] == 3


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_does_not_matter_where_gradients_are_off(mode):
    model, inputs = tiny(layers=2, norm="layer"), torch.randn(9, 2, dtype=torch.float64)
    want = explain(model, inputs, 1, segments=3, hessian=True).to_json()
    with mode():
        found = explain(model.requires_grad_(False), inputs + 0, 1, segments=3, hessian=True)
    assert found.to_json() == want
    assert found.frozen.gradient.shape == (9, 2) and found.removal.curvature.any()


def test_it_is_reached_from_the_package():
    assert ml.explicit.explain is explain and "explicit" in dir(ml)
