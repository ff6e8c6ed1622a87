"""The principles on the page: what is measured, what is said of it, and what is drawn."""

from __future__ import annotations

import json
import re

import pytest
import torch
from example import HOSTILE, certificate, trace

from mixerlens import principles, report
from mixerlens.report.data import gather
from mixerlens.report.principles import OPTIONS

LAYERS = [("softmax_attention", 2, 8), ("mamba", 20, 8), ("gated_delta_net", 2, 4)]


def part(layers=LAYERS, time=40, words=None):
    found = gather(trace(layers, time, words or ["In", HOSTILE]), certificate()).principles
    assert found is not None
    return found


def test_every_measure_has_a_panel_and_all_but_one_a_figure():
    found = part()
    assert [panel.name for panel in found.panels] == list(principles.MEASURES)
    assert set(found.pictures) == set(principles.MEASURES) - {"dsf"}
    assert found.kinds == ["attention", "recurrent"]
    assert "the heads that have cards below" in found.note and "40 tokens" in found.note
    assert "all heads" in part([("mamba", 3, 4)]).note


def test_a_figure_that_is_not_there_says_why_and_a_cut_is_named_where_there_is_one():
    found = part([("s4d", 3, 4)], words=None)
    (scaling,) = (panel for panel in found.panels if panel.name == "scaling")
    assert scaling.caption == "" and "q.k is one product" in scaling.absent and "scaling" not in found.pictures
    assert all(not panel.absent for panel in found.panels if panel.name != "scaling")
    page = report.build(trace([("s4d", 3, 4)], 40), None)
    assert page.count("No figure: q.k is one product") == 1
    assert "first" not in found.note and "last" not in found.note
    long = part([("mamba", 2, 4)], time=300)
    assert "state ranks on the first 256 and changes of order on the last 256 of them" in long.note


def test_figures_show_what_was_measured_of_the_shown_heads():
    made = trace(LAYERS, 40, ["In"])
    found, data = part(), gather(made, certificate())
    calls = list(made.mixers.values())
    for section, call, line in zip(data.layers, calls, found.pictures["normalization"]["lines"], strict=True):
        heads = [card.picture["id"].split("H")[1] for card in section.cards]
        record = principles.measure(call, which=["normalization"], heads=[int(h) for h in heads])["normalization"]
        assert line["x"] == tuple(map(float, record.lengths)) and line["layer"] == call.layer
        torch.testing.assert_close(torch.tensor(line["low"]), record.mass.amin(0).float(), rtol=1e-3, atol=0)
        torch.testing.assert_close(torch.tensor(line["high"]), record.mass.amax(0).float(), rtol=1e-3, atol=0)
    columns = found.pictures["position"]["columns"]
    record = principles.measure(calls[0], which=["position"], position=OPTIONS["position"])["position"]
    assert columns[0][2][0] == tuple(float(f"{v:.4g}") for v in record.reversed.tolist())


def test_conditions_say_in_which_layers_they_hold():
    (readout,) = (panel for panel in part().panels if panel.name == "readout")
    linear = next(held for held in readout.holds if "linear" in held.text)
    assert [(word, where) for _, word, _, where in linear.told] == [
        ("does not hold", "layer 0"),
        ("holds", "layers 1, 2"),
    ]
    assert readout.tally.endswith("hold, 2 in some layers only")


def test_the_code_on_the_page_is_the_code_that_runs():
    page = report.build(trace(LAYERS, 30, ["In"]), certificate())
    blocks = re.findall(r"<pre tabindex=\"0\"><code>(.*?)</code></pre>", page, re.DOTALL)
    assert len(blocks) >= 14
    for block in blocks:
        code = block.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"').replace("&#39;", "'")
        exec(compile(code.replace("&amp;", "&"), "page", "exec"), {})


def test_a_time_step_is_no_token_and_hostile_paths_are_text():
    found = part([("s4d", 3, 4)], words=None)
    assert found.pictures["retention"]["across"]["name"].startswith("lag i - j")
    made = trace([("s4d", 3, 4)], 30)
    made.mixers[f"{HOSTILE}.0"] = made.mixers.pop(next(iter(made.mixers)))
    page = report.build(made, None)
    assert HOSTILE not in page and "lag i - j, time steps" in page
    json.loads(re.findall(r'id="pictures">(.*?)</script>', page, re.DOTALL)[0], parse_constant=pytest.fail)


def test_one_token_has_no_principles():
    data = gather(trace([("softmax_attention", 2, 8)], 1, ["In"]), None)
    assert data.principles is None
    assert 'href="#principles"' not in report.build(trace([("softmax_attention", 2, 8)], 1, ["In"]), None)


def test_a_mixer_that_reads_both_ways():
    found = part([("bidirectional", 2, 8)])
    assert {panel.name for panel in found.panels} == set(principles.MEASURES)
    (readout,) = (panel for panel in found.panels if panel.name == "readout")
    assert readout.caption == "" and "bidirectional" in readout.rows[0].meaning
