"""The panel that explains an S4D classifier's answer: the numbers of `explicit.explain`, or the reason for none."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from example import trace

import mixerlens as ml
from mixerlens import explicit, report
from mixerlens.models.s4d import S4DClassifier, S4DConfig
from mixerlens.report import explain as panels
from mixerlens.report.data import gather
from mixerlens.report.explain import explain_panel

DIGITS = "specimens/digits-s4d"


@pytest.fixture(scope="module")
def digits() -> Any:
    inputs = torch.from_numpy(np.load(f"{DIGITS}/examples.npy"))[[3, 7]]
    return ml.open(DIGITS).trace(inputs)


def of(model: Any, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
    return explain_panel(
        SimpleNamespace(lens=SimpleNamespace(model=model, source=None), inputs=inputs, attention_mask=mask), 0
    )


@pytest.fixture
def small() -> S4DClassifier:
    torch.manual_seed(0)
    return S4DClassifier(S4DConfig(channels=2, classes=3, features=4, modes=2, layers=1)).eval()


def test_numbers_are_those_of_explain_and_add_up(digits):
    for sequence, example in ((0, 3), (1, 7)):
        panel = explain_panel(digits, sequence)
        assert panel is not None and not panel.refused and panel.picture is not None
        found = explicit.explain(digits.lens.model, digits.inputs[sequence], removed_pairs=None)
        p = panel.picture
        both = 2 * found.pairs.interactions[:-1, :-1]
        np.testing.assert_allclose(np.tril(p["pairs"], -1), np.tril(both, -1), rtol=1e-3, atol=1e-9)
        np.testing.assert_allclose(np.diag(p["pairs"]), found.pairs.interactions[:-1, :-1].diagonal(), rtol=1e-3)
        assert found.removal is not None
        for (g, other), value in zip(found.removal.pairs.tolist(), found.removal.synergy.tolist(), strict=True):
            assert p["synergy"][g][other] == p["synergy"][other][g] == pytest.approx(value, rel=1e-3, abs=1e-12)
        assert all(p["synergy"][g][g] is None for g in range(32))
        np.testing.assert_allclose(p["rows"]["effects"], found.removal.effects, rtol=1e-3, atol=1e-9)
        np.testing.assert_allclose(p["input"]["channels"], digits.inputs[sequence].T, rtol=1e-3)
        facts = {fact.name: fact.value for fact in panel.facts}
        label = int(np.load(f"{DIGITS}/labels.npy")[example])
        assert facts["Input"] == f"example {example}" and facts["True class"].split()[0] == str(label)
        assert float(facts["Logit"]) == pytest.approx(found.logit, rel=1e-4)
        said = sum(float(term.value.replace("\u2212", "-")) for term in panel.terms)
        assert said == pytest.approx(found.logit, abs=0.01) and max(abs(term.bar) for term in panel.terms) == 1


def test_the_page_has_it_and_its_pictures_are_plain_json(digits):
    data = gather(digits, None)
    assert data.explain is not None
    json.dumps(data.pictures(), allow_nan=False)
    page = report.build(digits, None)
    assert page.count('id="why"') == 1 and 'href="#why"' in page and "Certified: constant, waves" in page
    for term in data.explain.terms:
        assert f"<td>{term.name.replace(chr(39), '&#39;')}</td>" in page and term.value in page


def test_other_models_have_none():
    other = trace([("s4d", 3, 4)], 20)
    assert explain_panel(other, 0) is None
    assert 'id="why"' not in report.build(other, None)


def test_what_is_refused_says_why_and_gives_no_number(small, monkeypatch):
    inputs = torch.randn(1, 10, 2)
    inputs[0, 4, 1] = torch.nan
    panel = of(small, inputs)
    assert "NaN" in panel.refused and panel.picture is None and panel.terms == []
    padded = of(small, torch.randn(1, 10, 2), torch.arange(10)[None] < 7)
    assert "padded" in padded.refused
    monkeypatch.setattr(sys.modules["mixerlens.explicit.explain"], "LARGEST_ERROR", -1.0)
    assert "is refused" in of(small, torch.randn(1, 10, 2)).refused


def test_what_is_too_long_is_run_without_fewer_segments_or_none(small, monkeypatch):
    inputs = torch.randn(1, 40, 2)
    whole = of(small, inputs)
    assert whole.removed == "" and sum(v is not None for row in whole.picture["synergy"] for v in row) == 32 * 31
    monkeypatch.setattr(panels, "WORK", 40 * 4 * (32 + 64))
    fewer = of(small, inputs)
    assert "64 pairs" in fewer.removed and sum(v is not None for row in fewer.picture["synergy"] for v in row) == 128
    monkeypatch.setattr(panels, "WORK", 10)
    none = of(small, inputs)
    assert none.removed.startswith("Not run") and none.picture["synergy"] is None
    assert none.picture["rows"]["effects"] is None and none.picture["pairs"] == whole.picture["pairs"]


def test_short_inputs_many_channels_and_one_step():
    torch.manual_seed(1)
    model = S4DClassifier(S4DConfig(channels=7, classes=2, features=3, modes=2, layers=1)).eval()
    one = of(model, torch.randn(1, 1, 7))
    assert one.picture["borders"] == [0, 1] and one.picture["input"]["of"] == 7
    assert len(one.picture["input"]["channels"]) == panels.CHANNELS
    json.dumps(one.picture, allow_nan=False)
    long = of(model, torch.randn(1, 1500, 7))
    assert len(long.picture["input"]["step"]) <= panels.POINTS
