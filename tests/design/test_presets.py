"""Every preset is its family: from the same random signals it gives what the family's own plain recurrence gives."""

from __future__ import annotations

import pytest
import torch

from mixerlens.design import PRESETS, MixerSpec, assemble, preset, signals
from mixerlens.families import FAMILIES

SIZES = {"heads": 3, "dim": 4, "width": 3}  # those of the families' seeded examples


def _decay_of_a_rate(given: dict) -> dict:
    """The family takes a log decay, the preset the step and the rate whose product it is."""
    rate = torch.tensor([-1.0, -0.5, -2.0], dtype=torch.float64)
    return {"rate": rate, "step": given["log_decay"] / rate}


# row -> (what of the sizes and parts differs, signals from the family's arguments beside those of the same name)
ROWS: dict[str, tuple] = {
    "softmax_attention": ({}, lambda g: {}),
    "rope_attention": ({}, lambda g: {"angle": -g["rope"]}),
    "alibi_attention": ({}, lambda g: {"offset": -g["alibi"]}),
    "sliding_window_attention": ({"support": {"kind": "window", "width": 7}}, lambda g: {}),
    "encoder_attention": ({}, lambda g: {}),
    "softcap_attention": ({"readout": {"kind": "softcap", "cap": 2.0}}, lambda g: {}),
    "sink_attention": ({}, lambda g: {"sink": g["sinks"]}),
    "linear_attention": ({}, lambda g: {}),
    "normalized_linear_attention": ({}, lambda g: {}),
    "retnet": ({}, lambda g: {"angle": -g["rope"]}),
    "lightning_attention": ({}, lambda g: {"log_decay": torch.log(g["decay"])}),
    "gated_linear_attention": ({}, lambda g: {}),
    "norm_attention": ({}, lambda g: {"eta": torch.exp(g["score"])}),
    "delta_net": ({}, lambda g: {}),
    "gated_delta_net": ({}, _decay_of_a_rate),
    "mamba2": ({}, lambda g: {"query": g["C"], "key": g["B"], "rate": g["A"], "step": g["dt"]}),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_preset_is_its_family(name):
    changes, convert = ROWS[name]
    for seed in range(2):
        given = FAMILIES[name].arguments(seed)
        value = given.pop("value")
        spec = preset(name, **(SIZES | changes))
        named = {n: x for n, x in given.items() if n in signals(spec)}
        found = assemble(spec, named | convert(given), length=value.shape[1])
        want = FAMILIES[name].recurrence_by_hand(value=value, **given)
        got = found.operator() @ value
        assert got.shape == want.shape
        assert float((got - want).abs().max() / want.abs().max()) <= FAMILIES[name].bar


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_own_words(name):
    spec = preset(name)
    assert MixerSpec.from_dict(spec.to_dict()) == spec
