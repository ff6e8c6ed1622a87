"""Every preset is its family: from the same random signals it gives what the family's own plain recurrence gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mixerlens.design import PRESETS, MixerSpec, assemble, preset, signals
from mixerlens.families import FAMILIES

SIZES = {"heads": 3, "dim": 4, "width": 3}  # those of the families' seeded examples


RATE = torch.tensor([-1.0, -0.5, -2.0], dtype=torch.float64)
CHANNELS = {"dim": 1, "width": 1}
MODES = {"width": 1}


def _split(log_decay: torch.Tensor) -> dict:
    """The family takes a log decay, the preset the step and the rate whose product it is."""
    return {"rate": RATE, "step": log_decay / RATE}


def _complex(name: str, x: torch.Tensor) -> dict:
    return {name: x.real, f"{name}_imag": x.imag}


def _turning(x: torch.Tensor, rate: str = "rate") -> dict:
    """A complex number a mode, (heads, modes) or (heads,) for one mode."""
    x = x if x.dim() == 2 else x[:, None]
    return {rate: x.real, "frequency": x.imag}


def _lru(g: dict) -> dict:
    log = g["log_decay"]
    return _turning(log, "log_decay") | {"input_gate": g["gain"] / torch.sqrt(1 - torch.exp(2 * log.real))}


def _mamba3(g: dict) -> dict:
    """The family's angles have the step in them."""
    fresh = {"angle": -g["angle"], "query": g["C"], "key": g["B"], "rate": g["A"], "step": g["dt"]}
    g["angle"] = g["angle"] * g["dt"][..., None]
    return fresh


def _comba(g: dict) -> dict:
    share = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    g["feedback"] = share[:, None] * g["key"]
    return {"feedback_scale": share} | _split(g["log_decay"])


def _hnet(g: dict) -> dict:
    return {"update": torch.where(g["boundary"][..., None], g["probability"], 0)}


# row -> what of sizes and parts differs, and the signals from the family's arguments beside those of the same name
ROWS: dict[str, tuple[dict, Callable[[dict], dict]]] = {
    "softmax_attention": ({}, lambda g: {}),
    "rope_attention": ({}, lambda g: {"angle": -g["rope"]}),
    "alibi_attention": ({}, lambda g: {"offset": -g["alibi"]}),
    "sliding_window_attention": ({"support": {"kind": "window", "width": 7}}, lambda g: {}),
    "encoder_attention": ({}, lambda g: {}),
    "softcap_attention": ({"readout": {"kind": "softcap", "cap": 2.0}}, lambda g: {}),
    "sink_attention": ({}, lambda g: {"sink": g["sinks"]}),
    "grouped_query_attention": ({}, lambda g: {}),
    "based": ({}, lambda g: {}),
    "short_convolution": ({"width": 1}, lambda g: {"query": g["taps"]}),
    "long_convolution": ({"width": 1, "dim": 43}, lambda g: {"query": g["taps"]}),
    "hyena": (
        {"width": 1, "dim": 43},
        lambda g: {"query": g["taps"], "query_gate": g["query_gate"], "input_gate": g["key_gate"]},
    ),
    "sliding_window_linear_attention": ({"dim": 2, "evolution": {"kind": "window", "width": 5}}, lambda g: {}),
    "linear_attention": ({}, lambda g: {}),
    "normalized_linear_attention": ({}, lambda g: {}),
    "retnet": ({}, lambda g: {"angle": -g["rope"]}),
    "lightning_attention": ({}, lambda g: {"log_decay": torch.log(g["decay"])}),
    "gated_linear_attention": ({}, lambda g: {}),
    "norm_attention": ({}, lambda g: {"eta": torch.exp(g["score"])}),
    "delta_net": ({}, lambda g: {}),
    "gated_delta_net": ({}, lambda g: _split(g["log_decay"])),
    "differential_attention": ({}, lambda g: {}),
    "rg_lru": (CHANNELS, lambda g: _split(g["log_decay"])),
    "min_gru": (CHANNELS, lambda g: {"update": g["update_gate"]}),
    "min_lstm": (CHANNELS, lambda g: {}),
    "hnet_dechunk": ({"heads": 1, "dim": 1}, _hnet),
    "hgrn2": ({}, lambda g: {"log_decay": g["log_forget"]}),
    "hippo_legs": ({}, lambda g: {}),
    "lag_operator_ssm": ({}, lambda g: {"matrix": g["lag"][:, :, None], "key": g["projection"][:, :, None]}),
    "log_linear_attention": ({"evolution": {"kind": "fenwick", "length": 41}}, lambda g: {}),
    "longhorn": (MODES, lambda g: {"query": g["query"][:, :, None], "key": g["key"][:, :, None]}),
    "mamba3": (
        {
            "dim": 6,
            "evolution": {
                "kind": "trapezoid",
                "inner": {
                    "kind": "rotation",
                    "decay": "rate",
                    "layout": "interleaved",
                    "by_step": True,
                    "pairs": 2,
                },
            },
            "signals": {"angle": {"source": "projection", "heads": 3}},
        },
        _mamba3,
    ),
    "mesa_net": ({}, lambda g: {}),
    "mlstm": ({}, lambda g: {"log_decay": g["log_forget"]}),
    "s4d": (
        MODES,
        lambda g: _turning(g["A"]) | _complex("query", g["C"]) | _complex("key", g["B"]) | {"step": g["dt"]},
    ),
    "mamba": (
        MODES,
        lambda g: {"rate": g["A"], "step": g["dt"], "query": g["C"][:, :, None], "key": g["B"][:, :, None]},
    ),
    "mamba2": ({}, lambda g: {"query": g["C"], "key": g["B"], "rate": g["A"], "step": g["dt"]}),
    "s5": (CHANNELS, lambda g: _turning(g["A"]) | {"step": g["dt"]}),
    "lru": (CHANNELS, _lru),
    "linoss_im": ({"dim": 2, "width": 1}, lambda g: {"stiffness": g["A"], "step": g["dt"]}),
    "linoss_imex": ({"dim": 2, "width": 1}, lambda g: {"stiffness": g["A"], "step": g["dt"]}),
    "titans_linear": ({}, lambda g: {"beta": g["rate"]}),
    "titans_linear_plain": ({}, lambda g: {"beta": g["rate"]}),
    "ttt_linear": ({}, lambda g: {"beta": 2 * g["learning_rate"]}),
    "forgetting_transformer": ({}, lambda g: {"offset": g["log_forget"]}),
    "path_attention": ({}, lambda g: {}),
    "delta_product": ({}, lambda g: {}),
    "gated_delta_product": ({}, lambda g: _split(g["log_decay"])),
    "prism": ({}, lambda g: {"direction": g["erase"]}),
    "kimi_delta_attention": ({}, lambda g: {}),
    "gated_delta_net_2": ({}, lambda g: {"rates": g["erase"]}),
    "comba": ({}, _comba),
    "rwkv4": (CHANNELS, lambda g: {"log_input": g["log_key"], "bonus": torch.exp(g["bonus"])[:, None]}),
    "rwkv5": ({}, lambda g: {}),
    "rwkv6": ({}, lambda g: {}),
    "rwkv7": ({}, lambda g: {"rates": g["rate"]}),
    "s4": (
        MODES,
        lambda g: (
            _turning(g["A"])
            | _complex("query", g["C"])
            | _complex("key", g["B"])
            | _complex("low_rank", g["P"])
            | {"step": g["dt"]}
        ),
    ),
    "dss": (
        MODES | {"scaling": {"kind": "kernel_softmax", "lags": 48}},
        lambda g: _turning(g["A"]) | _complex("query", g["weight"]) | {"step": g["dt"]},
    ),
    "sigmoid_attention": ({}, lambda g: {}),
    "gated_slot_attention": ({"system": {"kind": "slots", "slots": 5}}, lambda g: {"log_decay": g["log_forget"]}),
}


def test_every_family_has_a_preset():
    assert set(PRESETS) == set(ROWS) == set(FAMILIES)


@pytest.mark.parametrize("name", ROWS)
def test_a_preset_is_its_family(name):
    changes, convert = ROWS[name]
    for seed in range(2):
        given = FAMILIES[name].arguments(seed)
        value = given.pop("value")
        spec = preset(name, **(SIZES | changes))
        fresh = convert(given)
        named = {n: x for n, x in given.items() if n in signals(spec)} | fresh
        found = assemble(spec, named, length=value.shape[1])
        want = FAMILIES[name].recurrence_by_hand(value=value, **given)
        got = found.operator() @ value
        assert got.shape == want.shape
        assert float((got - want).abs().max() / want.abs().max()) <= FAMILIES[name].bar


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_own_words(name):
    spec = preset(name)
    assert MixerSpec.from_dict(spec.to_dict()) == spec
