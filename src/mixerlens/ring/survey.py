"""What this package says of one mixer of a trace: its rings, their waves and what they remember, or why it has none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.measures.parts import dynamics_of, one_sequence
from mixerlens.measures.record import Record
from mixerlens.ring.convert import from_ssm
from mixerlens.ring.history import History, history
from mixerlens.ring.network import RingNetwork
from mixerlens.ring.waves import Waves, waves

__all__ = ["NoRing", "Survey", "survey"]

MOST = 64  # heads looked at, evenly spaced: a Mamba layer has thousands of channels


@dataclass(frozen=True, eq=False)
class Survey(Record):
    """rings: the network of the heads looked at; heads: which, of so many (of). error: the ring against the layer.
    waves; history: None where the network changes with the token."""

    ring: RingNetwork
    heads: list[int]
    of: int
    waves: Waves
    history: History | None

    labels: ClassVar[dict[str, str]] = {
        "error": "Ring against the layer's own recurrence, on 64 tokens, relative to its largest output.",
        "heads": "The heads looked at.",
        "of": "Heads there are.",
        "nodes": "Nodes of a ring.",
        "kind": "What couples the nodes.",
        "constant": "Whether the network is the same at every token.",
    }

    def to_json(self, curves: bool = True) -> dict[str, Any]:
        """curves: the errors of the history at every lag too, most of what there is to write."""
        numbers = {
            "error": self.ring.error,
            "heads": self.heads,
            "of": self.of,
            "nodes": self.ring.nodes,
            "kind": self.ring.kind,
            "constant": self.ring.constant,
        }
        history = None if self.history is None else self.history.to_json(curves)
        return self._described(numbers) | {"waves": self.waves.to_json(), "history": history}


@dataclass(frozen=True, eq=False)
class NoRing(Record):
    """Why a mixer has no ring or no waves to look at."""

    reason: str

    labels: ClassVar[dict[str, str]] = {"reason": "What keeps the mixer from being a ring with frequencies."}

    def to_json(self, curves: bool = True) -> dict[str, Any]:
        return self._described({"reason": self.reason})


def survey(mixer: Any, *, most: int = MOST, nulls: int = 20, seed: int = 0) -> Survey | NoRing:
    """The rings, waves and memory of a mixer call or of dynamics, of the first sequence.

    most: heads looked at. The history reaches back over the tokens the mixer saw or two laps of its slowest ring, what
    is more, and at most 4,096. nulls, seed: of the random
    orders. Raises InputError for something that is no mixer or no heads.
    """
    if most < 1:
        raise InputError(f"{most} rings asked for: at least 1")
    try:
        d = one_sequence(dynamics_of(mixer))
        heads = torch.linspace(0, d.heads - 1, min(most, d.heads)).round().long().tolist()
        ring = from_ssm(d.select_heads(heads))
        found = waves(ring, nulls=nulls, seed=seed)
        past = history(ring, _window(found, d.time)) if ring.constant else None
    except UnsupportedError as error:
        return NoRing(str(error))
    return Survey(ring, heads, d.heads, found, past)


def _window(found: Waves, seen: int) -> int:
    laps = found.dispersion.lap_time
    laps = laps[laps.isfinite()]
    return min(4096, max(seen, math.ceil(2 * float(laps.max())) if len(laps) else 0))
