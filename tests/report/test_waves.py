"""The waves of a report as data: those of `ring.waves` and of the equations; models without rings have none."""

from __future__ import annotations

import base64
import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from example import trace
from markupsafe import escape

from mixerlens import report
from mixerlens.errors import MemoryBudgetError
from mixerlens.families import FAMILIES
from mixerlens.measures.parts import one_sequence
from mixerlens.report.data import gather
from mixerlens.report.layers import plan_layer
from mixerlens.report.waves import WavePanel, wave_panel
from mixerlens.report.words import number
from mixerlens.ring import LINEAR_IN_DISGUISE, from_ssm, history, waves

HALF_A_STEP = 0.5 / 255 + 1e-3  # of a code, and of the largest node's four digits


def panels(found: Any) -> list[Any]:
    return [panel for _, panel in gather(found, None).waves]


def decoded(picture: dict[str, Any], nodes: int) -> np.ndarray:
    codes = np.frombuffer(base64.b64decode(picture["data"]), np.uint8).reshape(-1, nodes) / 255
    return codes * np.array(picture["peak"])[:, None]


@pytest.fixture(scope="module")
def s4d():
    return trace([("s4d", 6, 16)], 64)


def test_the_pictures_are_those_of_ring_waves(s4d):
    (panel,) = panels(s4d)
    d = s4d.mixers["model.layers.0.mixer"].dynamics
    assert [head.head for head in panel.heads] == [0, 2, 3, 5] and panel.travels and panel.constant
    for head in panel.heads:
        ring = from_ssm(d.select_heads([head.head]))
        w, p = waves(ring), head.picture
        assert p["tokens"] == w.tokens[:, 0].tolist() and len(p["tokens"]) == 129
        for name, size in (("wave", w.space_time), ("null", w.shuffled)):
            peak = size[:, 0].amax(-1, keepdim=True).numpy()
            assert np.abs((decoded(p[name], 16) - size[:, 0].numpy()) / peak).max() < HALF_A_STEP
        np.testing.assert_allclose(p["carriers"]["wave"], w.participation[:, 0], rtol=1e-3)
        np.testing.assert_allclose(p["carriers"]["null"], w.null[:, 0], rtol=1e-3)
        np.testing.assert_allclose(p["spectrum"]["frequency"], w.dispersion.frequency[0], rtol=1e-3, atol=1e-9)
        assert p["lap"] == float(w.dispersion.lap_time[0])


def test_the_picture_is_what_the_modes_say(s4d):
    """Node j after t tokens: sum_n exp(t dt a_n) exp(2 pi i n j / N) / N, by hand; two laps, a node a sixteenth."""
    (panel,) = panels(s4d)
    given = s4d.mixers["model.layers.0.mixer"].arguments
    for head in panel.heads:
        a, dt = given["A"][head.head].numpy().astype(complex), float(given["dt"][head.head])
        lap = 2 / dt
        n, j = np.arange(16), np.arange(16)
        assert head.picture["lap"] == pytest.approx(lap, rel=1e-6)
        assert head.picture["tokens"] == [round(k * lap / 64) for k in range(129)]
        t = np.array(head.picture["tokens"])[:, None, None]
        z = (np.exp(t * dt * a) * np.exp(2j * np.pi * n * j[:, None] / 16)).sum(-1) / 16
        peak = np.abs(z).max(-1, keepdims=True)
        assert np.abs((decoded(head.picture["wave"], 16) - np.abs(z)) / peak).max() < HALF_A_STEP
        power = np.abs(z) ** 2
        np.testing.assert_allclose(head.picture["carriers"]["wave"], power.sum(-1) ** 2 / (power**2).sum(-1), rtol=1e-3)
        # the dashed line: a turn a lap more from mode to mode, which all modes of S4D-Lin are on
        low, high = head.picture["spectrum"]["line"]
        assert low == pytest.approx(0, abs=1e-9) and high == pytest.approx(15 * 2 * math.pi / lap, rel=1e-3)


def test_the_words_and_numbers(s4d):
    (panel,) = panels(s4d)
    assert panel.said == "6 heads, each a ring of 16 nodes. Shown: 4 of 6."
    laps = [head.picture["lap"] for head in panel.heads]
    assert laps[panel.first] == sorted(laps)[1]  # the middle one is shown first
    for head in panel.heads:
        w = waves(from_ssm(s4d.mixers["model.layers.0.mixer"].dynamics.select_heads([head.head])))
        facts = {fact.name: fact.value for fact in head.facts}
        assert facts["Coupling"] == "circulant"
        assert facts["A lap"] == f"{number(head.picture['lap'])} time steps" and f"lap {facts['A lap']}" in head.name
        assert facts["Left after a lap"] == number(math.exp(-1))
        assert facts["Carriers at ¼ lap"] == f"{number(float(w.quarter))} (random {number(float(w.quarter_null))})"
        assert facts["Carriers at ½ lap"] == f"{number(float(w.half))} (random {number(float(w.half_null))})"
        assert facts["Distinct modes"] == f"{int(w.dispersion.distinct)} of 16"
        assert float(facts["Ring against layer"].replace("−", "-")) < 1e-12
        assert f"{number(float(w.quarter))} nodes of 16 carry the pulse" in head.sentence.replace(
            "1 node of", "1 nodes of"
        )
        assert number(float(w.quarter_null)) in head.sentence
        assert all(fact.help and "token" not in fact.help for fact in head.facts)
    page = report.build(s4d, None)
    assert page.count("The only nonlinearity of the layer is its decoder.") == 1
    assert LINEAR_IN_DISGUISE.endswith("The only nonlinearity of the layer is its decoder.")


def test_memory_is_the_history_until_all_is_lost(s4d):
    (panel,) = panels(s4d)
    d = s4d.mixers["model.layers.0.mixer"].dynamics
    window = math.ceil(2 * max(head.picture["lap"] for head in panel.heads))
    for head in panel.heads:
        h = history(from_ssm(d.select_heads([head.head])), window)
        memory = head.picture["memory"]
        np.testing.assert_allclose(memory["linear"], h.linear[memory["lag"], 0], atol=1e-3)
        np.testing.assert_allclose(memory["at_node"], h.at_node[memory["lag"], 0], atol=1e-3)
        stride = memory["lag"][1]
        assert len(memory["lag"]) <= 240 and memory["lag"] == list(range(0, memory["lag"][-1] + 1, stride))
        assert float(h.linear[memory["lag"][-1] + stride :].min() if memory["lag"][-1] + stride < window else 1) >= 0.99
        facts = {fact.name: fact.value for fact in head.facts}
        assert facts["Time steps held"] == number(float(h.capacity))
        assert (f"every {stride} lags" in head.captions["memory"][1]) == (stride > 1)


def test_mamba_diffuses_on_one_ring_of_the_sequence_shown():
    batch = trace([("mamba", 20, 8)], 40, ["a"], batch=3)
    call = batch.mixers["model.layers.0.mixer"]
    for sequence in (0, 2):
        ((_, panel),) = gather(batch, None, sequence=sequence).waves
        (head,) = panel.heads
        assert not panel.travels and not panel.constant and panel.title == "diffusive, no travelling wave"
        assert head.sentence.startswith("Diffusive, no travelling wave") and "0 nodes at most" in head.sentence
        assert panel.order == "decay" and "the middle one by reach" in panel.said
        assert "changes with the token" in panel.said and head.picture["memory"] is None
        w = waves(from_ssm(one_sequence(call.dynamics, sequence).select_heads([head.head])), nulls=1)
        assert not bool(w.travels.any()) and head.picture["lap"] is None
        np.testing.assert_allclose(head.picture["wave"]["peak"], w.space_time[:, 0].amax(-1), rtol=1e-3)
        np.testing.assert_allclose(head.picture["carriers"]["null"], w.null[:, 0], rtol=1e-3)
    assert LINEAR_IN_DISGUISE not in report.build(batch, None)  # its couplings change with its input


def test_heads_by_reach_where_not_all_have_cards():
    many = trace([("s4d", 40, 4)], 32)
    data = gather(many, None)
    ((layer, panel),) = data.waves
    cards = [card.head for card in layer.cards]
    assert len(cards) == 9 and [head.head for head in panel.heads] == [cards[k] for k in (0, 3, 5, 8)]
    assert panel.said.endswith("Shown: 4 of 40, by reach.")
    given = many.mixers["model.layers.0.mixer"].arguments
    for head in panel.heads:
        assert head.picture["lap"] == pytest.approx(2 / float(given["dt"][head.head]), rel=1e-6)


def test_other_mixers_have_no_panel_and_cost_nothing(monkeypatch):
    kinds = [("softmax_attention", 2, 8), ("bidirectional", 2, 8)]
    assert panels(trace(kinds, 20, ["a"])) == []
    page = report.build(trace(kinds, 20, ["a"]), None)
    assert 'id="waves"' not in page and "#waves" not in page
    monkeypatch.setattr("mixerlens.report.waves.survey", lambda *_, **__: pytest.fail("the ring was followed"))
    assert panels(trace([("gated_delta_net", 3, 6)], 20, ["a"])) == []


@pytest.mark.parametrize(
    ("family", "title", "heads", "says"),
    [
        ("s4", "a pulse travels", 3, "A lap takes"),
        ("dss", "a pulse travels", 3, "A lap takes"),
        ("linoss_im", "no travelling wave", 3, "so no travelling wave is seen here"),  # two nodes an oscillator
        ("gated_linear_attention", "diffusive, no travelling wave", 1, "fades where it is"),
        ("rwkv7", "scattered, no travelling wave", 1, "spreads and is scattered"),
    ],
)
def test_every_kind_of_ring_is_called_what_it_is(family, title, heads, says):
    given = FAMILIES[family].arguments(1)
    given.pop("value")
    call = SimpleNamespace(dynamics=FAMILIES[family].function(**given), family=family)
    panel = wave_panel(plan_layer("M0", "path", call, 0, 16), 1, "token")
    assert isinstance(panel, WavePanel) and (panel.title, len(panel.heads)) == (title, heads)
    assert all(says in head.sentence for head in panel.heads)
    json.dumps(panel.pictures(), allow_nan=False)


def test_padding_leaves_no_ring():
    padded = trace([("mamba", 4, 4)], 12, ["a"])
    padded.mixers["model.layers.0.mixer"].arguments["segments"] = torch.tensor([[-1] * 4 + [0] * 8])
    assert panels(padded) == []
    ((layer, reason),) = gather(padded, None).no_ring
    assert "no segments" in reason and layer.index == 0
    page = report.build(padded, None)
    assert 'id="waves"' in page and str(escape(reason)) in page


def test_what_does_not_fit_in_memory_is_left_out_with_its_reason(s4d, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryBudgetError("too large <b>")

    monkeypatch.setattr("mixerlens.report.waves.survey", refuse)
    assert panels(s4d) == []
    assert [reason for _, reason in gather(s4d, None).no_ring] == ["too large <b>"]
    page = report.build(s4d, None)
    assert "No ring drawn" in page and "too large &lt;b&gt;" in page and 'href="#waves"' in page


def test_many_layers_share_their_room(monkeypatch):
    layers = trace([("s4d", 5, 8)] * 3, 20)
    monkeypatch.setattr("mixerlens.report.waves.WAVE_BYTES", 3 * 2 * 129 * 8 * 4 / 3 * 2.5)
    found = panels(layers)
    assert [len(panel.heads) for panel in found] == [2, 2, 2]
    data = [head.picture[name]["data"] for panel in found for head in panel.heads for name in ("wave", "null")]
    assert sum(map(len, data)) <= 3 * 2 * 129 * 8 * 4 / 3 * 2.5
    monkeypatch.setattr("mixerlens.report.waves.WAVE_BYTES", 10)
    assert [[head.head for head in panel.heads] for panel in panels(layers)] == [[2], [2], [2]]  # one at least


def test_a_pulse_that_fades_to_nothing_and_one_token():
    faint = trace([("mamba", 2, 4)], 60, ["a"])
    faint.mixers["model.layers.0.mixer"].arguments["dt"][:] = 40.0
    for found in (faint, trace([("mamba", 2, 4), ("s4d", 2, 4)], 1, ["a"])):
        json.dumps(gather(found, None).pictures(), allow_nan=False)
        assert report.build(found, None)
    (panel,) = panels(faint)
    assert panel.heads[0].picture["wave"]["peak"][-1] == 0
    assert panel.heads[0].picture["carriers"]["wave"][-1] is None
