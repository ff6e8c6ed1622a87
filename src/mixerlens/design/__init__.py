"""Design a token mixer from parts: a specification as data, and everything that follows from it.

    spec = preset("gated_delta_net", heads=2)      one of the families, or MixerSpec(...), or read("new.yaml")
    signals(spec)                                  what the mixer must be given, and where each tensor comes from
    assemble(spec, tensors)                        the dynamics: a pure function of those tensors
    Mixer(spec, features=64)                       the trainable module: chunked, dense and token by token
    forms(spec), cost(spec, features=64)           how far these forms are apart, and what they cost
    SequenceModel(ModelConfig(...))                a model of such mixers; save(model, folder), load(folder)

The page docs/design.md says what a specification may hold.
"""

from __future__ import annotations

from mixerlens.design.assembly import assemble, signals
from mixerlens.design.cost import Cost, cost
from mixerlens.design.files import from_text, read, to_text, write
from mixerlens.design.forms import Forms, forms
from mixerlens.design.mixer import Mixer
from mixerlens.design.model import ModelConfig, SequenceModel
from mixerlens.design.presets import PRESETS, preset
from mixerlens.design.saved import load, save
from mixerlens.design.signals import Signal
from mixerlens.design.spec import MixerSpec, Part, Vector, part

__all__ = [
    "PRESETS",
    "Cost",
    "Forms",
    "Mixer",
    "MixerSpec",
    "ModelConfig",
    "Part",
    "SequenceModel",
    "Signal",
    "Vector",
    "assemble",
    "cost",
    "forms",
    "from_text",
    "load",
    "part",
    "preset",
    "read",
    "save",
    "signals",
    "to_text",
    "write",
]
