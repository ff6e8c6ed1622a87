"""The candidates: mixers whose every part is drawn from a list, by a generator with a seed, all of one state size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from ...design import Mixer, MixerSpec, Vector, part
from ...errors import MixerLensError
from .families import LEFT_OUT, SIZED, families, sized
from .sizes import WIDTH, fits, numbers

__all__ = ["SPACE", "Drawn", "draw"]

TIME = 32  # tokens on which a candidate is tried before it counts
POLYNOMIAL = 4  # dimensions of query and key, whose symmetric square is carried
REFLECTING = {"beta": {"scale": 2.0, "init": {"kind": "constant", "value": 1.0}}}
SIGNED = {"decay": {"transform": "tanh", "init": {"kind": "uniform", "low": 0.9, "high": 0.999}}}
TURNING = {"angle": {"source": "projection", "transform": "tanh", "scale": 3.141592653589793, "init": None}}


def _keys(**told: Any) -> dict[str, Any]:
    return {"query": Vector(**told), "key": Vector(**told)}


# slot, then the choices by the words that the page has for them
SPACE: dict[str, dict[str, dict[str, Any]]] = {
    "A": {
        "identity": {},
        "scalar": {"evolution": part("scalar")},
        "scalar, signed": {"evolution": part("scalar", decay="decay"), "signals": SIGNED},
        "scalar, by step": {"evolution": part("scalar", decay="rate")},
        "diagonal": {"evolution": part("diagonal")},
        "diagonal, signed": {"evolution": part("diagonal", decay="decay"), "signals": SIGNED},
        "turn": {"evolution": part("rotation"), "signals": TURNING},
        "turn with decay": {"evolution": part("rotation", decay="decay"), "signals": TURNING},
        "delta, beta < 1": {"evolution": part("delta")},
        "delta, beta < 2": {"evolution": part("delta"), "signals": REFLECTING},
        "delta with decay, beta < 1": {"evolution": part("delta", decay="rate")},
        "delta with decay, beta < 2": {"evolution": part("delta", decay="rate"), "signals": REFLECTING},
        "two deltas, beta < 2": {"evolution": part("delta_product"), "signals": REFLECTING},
    },
    "b": {
        "1": {},
        "1 / sqrt n": {"scaling": part("inverse_sqrt_dim")},
        "beta": {"scaling": part("beta")},
        "implicit": {"scaling": part("implicit")},
        "input gate": {"scaling": part("input_gate")},
        "step": {"scaling": part("step")},
    },
    "phi": {
        "identity": {},
        "1 + z + z^2 / 2": {"readout": part("polynomial", coefficients=(1.0, 1.0, 0.5)), "dim": POLYNOMIAL},
        "exp": {"readout": part("exp")},
    },
    "eta": {
        "1": {},
        "row sum": {"normalizer": part("row_sum")},
        "floor": {"normalizer": part("floor")},
        "exp gate": {"normalizer": part("gate", activation="exp")},
    },
    "query and key": {
        "plain": {},
        "unit": _keys(norm="l2"),
        "silu, unit": _keys(features="silu", norm="l2"),
        "rms": _keys(norm="rms"),
        "elu + 1": _keys(features="elu_plus_one"),
        "softmax": _keys(features="softmax"),
    },
    "value": {"plain": {}, "silu": {"value": Vector(features="silu")}},
    "convolution": {"none": {}, "4 tokens": {"short_convolution": part("causal", width=4)}},
    "positions": {"none": {}, "RoPE": {"positions": part("rope")}},
    "norm": {"none": {}, "rms": {"norm": part("rms")}},
    "gate": {"none": {}, "silu": {"gate": part("silu")}},
}


@dataclass(frozen=True)
class Drawn:
    """specs by name. choices: of each, a word a slot. draws: how many it took. refused: how often each reason was met;
    known: how often a family or an earlier candidate was drawn again."""

    specs: dict[str, MixerSpec] = field(default_factory=dict)
    choices: dict[str, dict[str, str]] = field(default_factory=dict)
    draws: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    known: int = 0


@cache
def draw(count: int, seed: int) -> Drawn:
    """The first ``count`` candidates of this seed: the same, whatever else was drawn before, and the beginning of every
    longer list.

    Raises ValueError for a space that has not so many in 100 draws each.
    """
    generator = np.random.default_rng(seed)
    found, draws, known = Drawn(), 0, 0
    met = {_parts(spec) for spec in families().values()} | {
        _parts(sized(name)) for name in SIZED.keys() - families().keys() - LEFT_OUT.keys()
    }
    while len(found.specs) < count:
        draws += 1
        if draws > 100 * count:
            raise ValueError(f"{draws - 1} draws made {len(found.specs)} of {count} candidates")
        words = {slot: list(choices)[int(generator.integers(len(choices)))] for slot, choices in SPACE.items()}
        name = f"candidate {len(found.specs) + 1:02d}"
        spec = _made(name, words)
        if isinstance(spec, str):
            found.refused[spec] += 1
        elif _parts(spec) in met:
            known += 1
        else:
            met.add(_parts(spec))
            found.specs[name], found.choices[name] = spec, words
    return replace(found, draws=draws, known=known)


def _made(name: str, words: dict[str, str]) -> MixerSpec | str:
    """The specification, or why there is none."""
    changes: dict[str, Any] = {}
    for slot, word in words.items():
        changes |= SPACE[slot][word]
    try:
        spec = MixerSpec(name, **changes)
        mixer = Mixer(spec, WIDTH, seed=0)
    except MixerLensError:
        return "parts that cannot go together"
    if not mixer.recurrent:
        return "no finite state"
    count = numbers(spec)
    if count is None or not fits(count):
        return "a state of another size"
    try:
        with torch.no_grad():
            x = torch.randn(2, TIME, WIDTH, generator=torch.Generator().manual_seed(0))
            finite = bool(mixer(x).isfinite().all())
    except MixerLensError:
        finite = False
    return spec if finite else "numbers that are not finite before training"


def _parts(spec: MixerSpec) -> str:
    """Everything but the name."""
    return repr(replace(spec, name="-").to_dict())
