"""Design a token mixer from parts: a specification as data, and everything that follows from it.

spec = preset("gated_delta_net", heads=2)      one of the families, or MixerSpec(...), or read("mixer.yaml")
signals(spec)                                  what the mixer must be given, and where each tensor comes from
assemble(spec, tensors)                        the dynamics: a pure function of those tensors
"""

from __future__ import annotations

from mixerlens.design.assembly import assemble, signals
from mixerlens.design.presets import PRESETS, preset
from mixerlens.design.signals import Signal
from mixerlens.design.spec import MixerSpec, Part, Vector, part

__all__ = ["PRESETS", "MixerSpec", "Part", "Signal", "Vector", "assemble", "part", "preset", "signals"]
