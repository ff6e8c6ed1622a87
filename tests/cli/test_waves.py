"""``mixerlens waves``: what it says of models with rings, without, and of bad requests."""

from __future__ import annotations

import json
import math

import pytest
import torch

from mixerlens.models.s4d import load_s4d


def as_json(result):
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_fresh_s4d_layer_is_transport(s4d_folder, mixerlens):
    found = as_json(mixerlens("waves", s4d_folder, "--json", "--full", "--length", "40", "--nulls", "3"))
    model = load_s4d(s4d_folder)
    assert list(found) == ["layers.0.s4d", "layers.1.s4d"]
    for layer, block in zip(found.values(), model.layers, strict=True):
        assert layer["error"] < 1e-12
        assert (layer["heads"], layer["of"], layer["nodes"], layer["kind"]) == ([0, 1, 2, 3, 4], 5, 4, "circulant")
        laps = 2 / torch.exp(block.s4d.log_dt.detach().double())  # S4D-Lin: a lap is a time of 2
        assert layer["waves"]["dispersion"]["lap_time"] == pytest.approx(laps.tolist(), rel=1e-5)
        assert layer["waves"]["dispersion"]["lap_decay"] == pytest.approx([math.exp(-1)] * 5, rel=1e-5)
        for quarter, null in zip(layer["waves"]["quarter"], layer["waves"]["quarter_null"], strict=True):
            assert quarter < null
        assert len(layer["history"]["linear"]) == max(40, math.ceil(2 * float(laps.max())))


def test_the_json_is_a_number_a_ring_unless_more_is_asked_for(s4d_folder, mixerlens):
    options = ("waves", s4d_folder, "--json", "--length", "40", "--nulls", "2")
    short, full = (mixerlens(*options, *more) for more in ((), ("--full",)))
    history, whole = (as_json(each)["layers.0.s4d"]["history"] for each in (short, full))
    assert len(history["capacity"]) == 5 and not {"linear", "at_node", "node"} & history.keys()
    assert {name: whole[name] for name in ("capacity", "window", "nodes")} == {
        name: history[name] for name in ("capacity", "window", "nodes")
    }
    assert len(full.stdout) > 3 * len(short.stdout)


def test_the_table_names_laps_and_the_figure_is_drawn(s4d_folder, mixerlens, tmp_path):
    target = tmp_path / "waves.svg"
    result = mixerlens("waves", s4d_folder, "--length", "16", "--rings", "2", "--nulls", "2", "--figure", target)
    assert result.exit_code == 0, result.stderr
    assert "2 x 4" in result.stdout
    assert "of 5" in result.stdout
    assert "equally exact rings" in result.stdout
    assert result.stdout.endswith(f"figure: {target}\n")
    drawn = target.read_text()
    assert drawn.startswith("<?xml") and drawn.count("<image") >= 6
    again = tmp_path / "again.svg"
    mixerlens("waves", s4d_folder, "--length", "16", "--rings", "2", "--nulls", "2", "--figure", again)
    assert again.read_text() == drawn


def test_a_model_without_rings_is_refused_with_the_reason(llama_folder, mixerlens):
    result = mixerlens("waves", llama_folder, "--length", "8")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is a ring: a ring is linear: readout Exp with normaliser RowSum is not" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rings", "0"], "--rings 0 --nulls 20: both must be at least 1"),
        (["--figure", "nowhere/waves.png"], "the folder nowhere does not exist"),
        (["--figure", "waves.txt"], "end it in .png, .pdf, .svg"),
    ],
)
def test_bad_requests_are_one_line(options, message, s4d_folder, mixerlens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = mixerlens("waves", s4d_folder, "--length", "8", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
