"""Principles of whole models, specifications and families: every mixer, what was drawn, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mixerlens import families, principles
from mixerlens.design import preset
from mixerlens.errors import InputError
from mixerlens.principles.figure import draw
from mixerlens.principles.model import of_family, of_model, of_spec
from mixerlens.principles.pictures import Dots, Lines, picture
from mixerlens.principles.words import VALUES, conditions, value

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from example import trace

LAYERS = [("softmax_attention", 4, 8), ("mamba", 12, 8), ("gated_delta_net", 2, 4)]


def test_every_mixer_and_every_head_of_a_trace():
    made = trace(LAYERS, 40, ["In"], batch=2)
    found = of_model(made, sequence=1, which=["retention", "normalization"])
    assert [(m.layer, m.kind, m.family, m.of) for m in found] == [
        (0, "attention", "softmax_attention", 4),
        (1, "recurrent", "mamba", 12),
        (2, "recurrent", "gated_delta_net", 2),
    ]
    assert found.note == "" and (found.tokens, found.unit) == (40, "token")
    for mixer, call in zip(found, made.mixers.values(), strict=True):
        alone = principles.measure(call, which=["retention"], sequence=1)["retention"]
        assert torch.equal(mixer.report["retention"].rms.nan_to_num(), alone.rms.nan_to_num())
        assert len(mixer.report.heads) == mixer.of
    assert found["model.layers.1.mixer"].layer == 1


def test_heads_are_left_out_only_on_request_and_that_is_said():
    found = of_model(trace(LAYERS, 20, ["In"]), heads=3, layers=[0, 1], which=["eigenvalues"])
    assert [m.report.heads for m in found] == [(0, 2, 3), (0, 6, 11)]
    assert "at your request 3 of 4 heads of model.layers.0.mixer" in found.note and "3 of 12 heads" in found.note


def test_a_lens_is_traced_on_the_inputs():
    made = trace(LAYERS[:1], 20, ["In"])
    asked = []
    lens: Any = SimpleNamespace(trace=lambda inputs, layers: asked.append((inputs, layers)) or made)
    found = of_model(lens, "In", layers=[0], which=["position"])
    assert asked == [("In", [0])] and len(found.mixers) == 1
    with pytest.raises(InputError, match="need inputs"):
        of_model(lens)
    with pytest.raises(InputError, match="has its inputs already"):
        of_model(made, "In")


@pytest.mark.parametrize("name", ["gated_delta_net", "softmax_attention", "mlstm", "s4d"])
def test_a_specification_is_drawn_by_seed(name):
    spec = preset(name)
    one, again, other = (
        of_spec(spec, length=24, seed=seed, which=["normalization", "scaling"]).to_json() for seed in (3, 3, 4)
    )
    assert one == again != other
    assert "drawn with seed 3" in one["note"] and one["tokens"] == 24
    json.dumps(one, allow_nan=False)


@pytest.mark.parametrize("name", list(families.FAMILIES))
def test_every_family_is_measured(name):
    found = of_family(name, length=16, which=["dsf", "eigenvalues"])
    parts = 2 if name == "differential_attention" else 1
    assert len(found.mixers) == parts and found.tokens == 16
    for mixer in found:
        assert list(mixer.report.records) == ["dsf", "eigenvalues"] and not mixer.report.refused
    json.dumps(found.to_json(), allow_nan=False)


def test_a_refused_measure_is_named_and_leaves_the_others(monkeypatch):
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "20000")
    found = of_family("softmax_attention", length=200, which=["readout", "position"])
    (mixer,) = found
    assert "budget is 20000 bytes" in mixer.report.refused["readout"] and list(mixer.report.records) == ["position"]
    assert found.to_json()["mixers"]["softmax_attention"]["refused"]["readout"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: of_family("gated"), "no family is called 'gated'"),
        (lambda: of_family("mamba", length=0), "at least one token"),
        (lambda: of_family("mamba", heads=0), "look at one head"),
        (lambda: of_family("mamba", which=["beauty"]), "no principle is called 'beauty'"),
        (lambda: of_model(trace(LAYERS, 9, ["In"]), layers=[7]), "there is no layer 7"),
        (lambda: of_model(trace(LAYERS, 9, ["In"]), sequence=1), "sequence 1 does not exist"),
    ],
)
def test_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_values_words_and_pictures_of_every_measure():
    found = of_model(trace(LAYERS, 40, ["In"]))
    assert set(VALUES) == set(principles.MEASURES)
    for name in principles.MEASURES:
        for mixer in found:
            assert value(name, mixer.report[name])
        for _, each in conditions(name, found):
            assert sorted(layer for _, _, layers in each for layer in layers) == [0, 1, 2]
        shown = picture(name, found)
        if name == "dsf":
            assert shown is None
        elif isinstance(shown, Lines):
            assert [line.layer for line in shown.lines] == [0, 1, 2]
            for line in shown.lines:
                for low, middle, high in zip(line.low, line.middle, line.high, strict=True):
                    assert low is None or low <= middle <= high  # type: ignore[operator]
        else:
            assert isinstance(shown, Dots)
            assert [column[0] for column in shown.columns] == [0, 1, 2]
    assert "rank" in value("readout", found["model.layers.0.mixer"].report["readout"])


def test_the_figure_is_the_same_file_for_the_same_numbers(tmp_path):
    found = of_model(trace(LAYERS, 40, ["In"]))
    one, again = draw(found, tmp_path / "one.svg"), draw(found, tmp_path / "again.svg")
    assert one.read_bytes() == again.read_bytes() and one.read_text().startswith("<?xml")
    with pytest.raises(InputError, match="nothing to draw"):
        draw(of_family("delta_net", length=1, which=["dsf"]), tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
