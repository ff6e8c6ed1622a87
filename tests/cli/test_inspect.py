"""``mixerlens inspect``: what a windowed mixer carries is bounded by its window."""

from __future__ import annotations

import json

from mixerlens.design import MixerSpec, ModelConfig, SequenceModel, cost, part, preset
from mixerlens.design.saved import save


def test_a_window_bounds_the_state(mixerlens, tmp_path):
    sizes = {"heads": 2, "dim": 3, "width": 5}
    window = {**sizes, "support": part("window", width=8)}
    layers = (
        MixerSpec(name="near", readout=part("exp"), normalizer=part("row_sum"), **window),
        MixerSpec(name="near and linear", **window),
        preset("softmax_attention", **sizes),
    )
    save(SequenceModel(ModelConfig(layers=layers, features=10, vocabulary=7)), tmp_path / "saved")
    result = mixerlens("inspect", str(tmp_path / "saved"), "--json")
    assert result.exit_code == 0, result.stderr
    states = [layer["state"] for layer in json.loads(result.stdout)["layers"]]
    assert states == [7 * (3 + 5), 7 * (3 + 5), "grows"]
    # what the step itself carries after as many tokens, counted from its tensors
    assert [cost(layer, features=10, length=1).state for layer in layers[:2]] == [2 * state for state in states[:2]]
