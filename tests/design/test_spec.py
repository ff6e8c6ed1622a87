"""A specification says what is wrong with it in one line, when it is made."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch

from mixerlens.design import MixerSpec, Vector, assemble, part, preset
from mixerlens.design.parts import SLOTS
from mixerlens.errors import InputError

BAD = {
    "an unknown field": ({"hedas": 3}, "'hedas' is unknown; did you mean heads"),
    "an unknown kind": ({"evolution": "delt"}, "evolution.kind: 'delt' is unknown; did you mean delta"),
    "an unknown option": (
        {"evolution": {"kind": "delta", "dceay": "rate"}},
        "evolution: 'dceay' .* did you mean decay",
    ),
    "a word that is no choice": ({"evolution": {"kind": "delta", "decay": "rat"}}, "evolution.decay: 'rat' .* rate"),
    "an option left out": ({"readout": "softcap"}, "readout: softcap needs cap"),
    "a number out of range": ({"readout": {"kind": "softcap", "cap": -1}}, "readout.cap: -1 must be"),
    "no heads": ({"heads": 0}, "heads: 0 must be a whole number from 1"),
    "half a head": ({"heads": 2.5}, "heads: 2.5 must be a whole number"),
    "true as a number": ({"dim": True}, "dim: true must be a whole number"),
    "not a number": ({"query": {"scale": float("nan")}}, "query.scale: nan must be a finite number"),
    "an unknown vector option": ({"query": {"nrom": "l2"}}, "query: 'nrom' is unknown; did you mean norm"),
    "an unknown feature map": ({"key": {"features": "slu"}}, "key.features: 'slu' .* silu"),
    "no name": ({"name": None}, "name: null must be a printable text"),
    "an empty name": ({"name": ""}, "name: '' must be a printable text of 1 to 1000 characters"),
    "a name with control characters": ({"name": "a\x1b[31m"}, "name: .* must be a printable text"),
    "groups that do not divide": ({"key": {"heads": 3}}, "signal key: 3 head groups do not divide 4 heads"),
    "features of two sizes": ({"key": {"features": "taylor"}}, "16 and 153 dimensions"),
    "a function of a projection": ({"query": {"function": "first"}}, "query.function: .* no use for it"),
    "arguments of nothing": (
        {"query": {"source": "constant", "arguments": {"value": 1}}},
        "query.arguments: .* no use",
    ),
    "a function without its imaginary part": (
        {"key": {"source": "parameter", "imaginary": True, "function": "first"}},
        "signal key_imag: function: 'first_imag' is unknown",
    ),
    "an argument of another function": (
        {"evolution": "rotation", "signals": {"angle": {"arguments": {"bsae": 10}}}},
        "signal angle: arguments: 'bsae' is unknown; did you mean base",
    ),
    "an argument out of range": (
        {"evolution": "rotation", "signals": {"angle": {"arguments": {"base": 0}}}},
        "signal angle: base: 0.0 must be",
    ),
    "a turned query beside a key that is not": (
        {"key": "evolution", "evolution": "scalar", "positions": "rope"},
        "what the evolution lets in is not turned",
    ),
    "a query from the evolution": ({"query": "evolution"}, "query.source: only the key"),
    "an evolution that does not say what enters": ({"key": "evolution"}, "identity does not say what enters"),
    "a constant that is scaled": ({"query": {"source": "constant", "scale": 2.0}}, "query.scale: .* drop scale"),
    "an odd size under a rotation": ({"dim": 5, "evolution": "rotation"}, "need an even dim .* dim is 5"),
    "an oscillator of the wrong size": ({"evolution": "oscillator"}, "dim: 16 must be 2"),
    "a block inside a block": (
        {"evolution": {"kind": "trapezoid", "inner": {"kind": "trapezoid", "inner": "identity"}}},
        "evolution.inner.kind: trapezoid changes query and key too",
    ),
    "a trapezoid without steps": ({"evolution": {"kind": "trapezoid", "inner": "scalar"}}, "needs decay 'rate'"),
    "writes along one key": ({"evolution": {"kind": "writes", "inner": "delta"}}, "take direction own"),
    "several writes under one row sum": (
        {"evolution": {"kind": "writes", "inner": "scalar"}, "normalizer": "row_sum"},
        "normalizer: row_sum beside evolution writes: .*one impulse a token.*; take normalizer none",
    ),
    "an option of what has none": ({"readout": {"kind": "exp", "cap": 2}}, "'cap' is unknown: .*; drop it"),
    "a part without its kind": ({"readout": {"cap": 2}}, "readout.kind is missing: give one of .*exp"),
    "several keys that positions turn": (
        {"evolution": "delta_product", "positions": "rope"},
        "positions: rope beside evolution delta_product: only one key a token is turned.*; take positions none",
    ),
    "slots without gates": ({"system": {"kind": "slots", "slots": 3}}, "slots need evolution diagonal"),
    "ridge without b": ({"system": "ridge", "evolution": "scalar"}, "scaling beta, step or input_gate"),
    "a scaling without its decay": ({"scaling": "rest"}, "evolution.kind: identity has no decay here"),
    "the rest of no decay": ({"scaling": "rest", "evolution": "delta"}, "delta has no decay here"),
    "hold without a rate": ({"scaling": "hold", "evolution": "scalar"}, "scaling hold: .* decay 'rate'"),
    "a floor under exponentials": ({"readout": "exp", "normalizer": "floor"}, "floor .* linear readouts"),
    "both ways and forgetting": ({"support": "bidirectional", "evolution": "scalar"}, "bidirectional support"),
    "complex scores under relu": ({"query": {"imaginary": True}, "readout": "relu"}, "undefined on complex scores"),
    "a signal nobody needs": (
        {"signals": {"beta": {"scale": 2}}},
        "signals.beta: the parts .* have no signals of their own: drop it",
    ),
    "the query among the signals": ({"signals": {"query": {"norm": "l2"}}}, "signals.query: say it under 'query'"),
    "a number beyond all floats": ({"query": {"scale": 10**400}}, "query.scale: a number of more than 60 digits must"),
    "a size beyond all texts": ({"heads": 10**5000}, "heads: a number of more than 60 digits must be a whole number"),
    "a key that is no text": ({"signals": {1: {}}}, "signals: 1 is no name: keys are texts"),
    "a part that is no name": (
        {"readout": 3},
        "readout: 3 must be the name of a kind or a mapping with kind, of exp, ",
    ),
    "a vector that is no name": ({"query": [1]}, r"query: \[1\] must be the name of a source or a mapping: source, "),
    "an option without use": (
        {"query": {"deviation": 2}},
        "query.deviation: source projection has no use for it: drop",
    ),
    "a bound without an end": ({"query": {"deviation": -1}}, "query.deviation: -1 must be a finite number from 0 on"),
    "a start without a kind": (
        {"scaling": "beta", "signals": {"beta": {"init": {"value": 1}}}},
        "signals.beta.init.kind is missing: give one of constant",
    ),
    "a start of nothing": (
        {"scaling": "beta", "signals": {"beta": {"scale": 0, "init": {"kind": "constant", "value": 1}}}},
        "signal beta: scale 0 leaves it no value to start at: choose another scale",
    ),
    "a start beyond all numbers": (
        {"query": {"source": "parameter", "scale": 1e-320}},
        "an initial value of .* is beyond all numbers before identity times .*: choose another init or scale",
    ),
    "a misspelt signal": ({"evolution": "delta", "signals": {"beat": {"scale": 2}}}, "'beat' .* did you mean beta"),
    "a vector among the signals": ({"signals": {"key": {"norm": "l2"}}, "scaling": "beta"}, "say it under 'key'"),
    "a decay that grows": ({"evolution": "scalar", "signals": {"log_decay": {"transform": "exp"}}}, "-inf to 0 are"),
    "a start out of reach": (
        {"evolution": "scalar", "signals": {"log_decay": {"init": {"kind": "constant", "value": 1.0}}}},
        "an initial value .* lies outside",
    ),
    "a start without an inverse": (
        {"evolution": "delta", "signals": {"beta": {"transform": "silu", "init": {"kind": "constant", "value": 1}}}},
        "has no inverse",
    ),
    "a start of two signs": (
        {"evolution": "scalar", "signals": {"log_decay": {"init": {"kind": "log_uniform", "low": -1, "high": 1}}}},
        "two numbers of one sign",
    ),
    "a position that is no function": (
        {"evolution": "scalar", "signals": {"log_decay": {"source": "position"}}},
        "a position needs a function",
    ),
    "a constant of the token": (
        {"evolution": "scalar", "signals": {"log_decay": {"source": "constant", "function": "clock"}}},
        "its source is position",
    ),
    "a transform of a constant": (
        {"evolution": "rotation", "signals": {"angle": {"scale": 2.0}}},
        "signals.angle.scale: a constant is what its function gives",
    ),
    "more than a machine holds": ({"heads": 2**10, "dim": 2**15}, "33554432 numbers a token, at most 4194304"),
    "a window that no machine holds": (
        {"evolution": {"kind": "window", "width": 2**20}},
        "evolution.width: 67108864 numbers a token",
    ),
    "a dense matrix without end": ({"evolution": "dense", "dim": 1000}, "HiPPO-LegS with 1000 numbers: at most 512"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_specification_is_one_line(what):
    given, told = BAD[what]
    with pytest.raises(InputError, match=told) as caught:
        MixerSpec.from_dict({"name": "bad"} | given)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_the_name_may_not_be_left_out():
    with pytest.raises(InputError, match="name is missing"):
        MixerSpec.from_dict({"heads": 2})
    with pytest.raises(InputError, match="must be a mapping"):
        MixerSpec.from_dict([1, 2])  # type: ignore[arg-type]


def test_a_part_can_be_said_in_three_ways():
    said = [part("delta", decay="rate"), {"kind": "delta", "decay": "rate"}]
    first, second = (MixerSpec.from_dict({"name": "x", "evolution": e}) for e in said)
    assert first == second
    assert first.evolution.options == {"direction": "key", "decay": "rate"}
    assert MixerSpec.from_dict({"name": "x", "evolution": "delta"}).evolution.options["decay"] == "none"


def test_one_part_is_changed_and_the_rest_stays():
    spec = preset("gated_delta_net", heads=2)
    other = replace(spec, evolution=part("scalar", decay="rate"))
    assert "beta" in other.all_signals  # of the scaling
    assert other.key == spec.key and other.evolution.kind == "scalar"
    assert replace(other, evolution=spec.evolution) == spec


def test_two_parts_share_a_signal_of_one_meaning():
    spec = preset("delta_net")
    assert [name for name in spec.all_signals if name == "beta"] == ["beta"]
    with pytest.raises(InputError, match=r"signal beta: two parts need it with shapes \(2,\) and \(\)"):
        replace(preset("delta_product"), scaling=part("beta"))


def test_the_words_are_short():
    told = MixerSpec(name="x", query=Vector(norm="l2")).to_dict()
    assert told == {"name": "x", "heads": 4, "dim": 16, "width": 16, "query": {"norm": "l2"}}


OPTIONS: dict[str, dict] = {
    "writes": {"inner": "scalar"},
    "read_before_write": {"inner": "scalar"},
    "trapezoid": {"inner": {"kind": "scalar", "decay": "rate"}},
    "window": {"width": 3},
    "softcap": {"cap": 3.0},
    "polynomial": {"coefficients": [1.0, 0.5]},
    "constant": {"value": 0.5},
    "kernel_softmax": {"lags": 16},
}


def _made(**kinds: str) -> MixerSpec | None:
    """The specification with these kinds; None where it is refused."""
    parts = {slot: part(kind, **OPTIONS.get(kind, {})) for slot, kind in kinds.items()}
    dim = 2 if kinds["evolution"] == "oscillator" else 4
    key = "parameter" if kinds["evolution"] == "bilinear" else "projection"
    try:
        return MixerSpec.from_dict({"name": "x", "heads": 2, "dim": dim, "width": 3, "key": key, **parts})
    except InputError:
        return None


@pytest.mark.parametrize("evolution", SLOTS["evolution"])
def test_whatever_is_not_refused_runs(evolution):
    """Every evolution with every scaling, and with every readout and normaliser."""
    scaled = [_made(evolution=evolution, scaling=b) for b in SLOTS["scaling"]]
    read = [
        _made(evolution=evolution, scaling="beta", readout=r, normalizer=z)
        for r in SLOTS["readout"]
        for z in SLOTS["normalizer"]
    ]
    made = [spec for spec in (*scaled, *read) if spec is not None]
    assert made
    for spec in made:
        generator = torch.Generator().manual_seed(0)
        trained = {n: s for n, s in spec.all_signals.items() if s.trained and s.dynamics}
        found = assemble(spec, {n: s.example(generator, 2, 7) for n, s in trained.items()}, length=7)
        alpha = found.operator().to_dense()
        assert bool(torch.isfinite(torch.view_as_real(alpha) if alpha.is_complex() else alpha).all())


def test_a_specification_travels():
    spec = preset("mamba3", heads=2)
    assert pickle.loads(pickle.dumps(spec)) == copy.deepcopy(spec) == spec
    told = preset("mamba3").to_dict()
    told["signals"]["angle"]["source"] = "parameter"  # a copy
    assert preset("mamba3").signals["angle"]["source"] == "projection"


def test_an_unknown_family():
    with pytest.raises(InputError, match="'mambo' is unknown; did you mean mamba"):
        preset("mambo")
    with pytest.raises(InputError, match="'haeds' is unknown; did you mean heads"):
        preset("mamba", haeds=3)
