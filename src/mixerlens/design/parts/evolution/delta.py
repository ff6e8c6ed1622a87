"""A_t = a_t (I - beta_t w_t w_t^T): the delta rule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from mixerlens.design.inits import constant
from mixerlens.design.parts.evolution.decay import FORMS, decay_of, option
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, choice
from mixerlens.evolution import Delta

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def beta(heads: int, *shape: int, low: float = -math.inf) -> Signal:
    """How much of what lies along w is erased: 1 erases all, 2 reflects."""
    says = "the share of the state along w that is taken off"
    return Signal("beta", shape, heads, transform="sigmoid", low=low, init=constant(0.5), says=says)


def own_direction(sizes: Sizes, o: Options) -> list[Signal]:
    """A unit vector w that is not the key."""
    if o["direction"] == "key":
        return []
    return [Signal("direction", (sizes.dim,), sizes.heads, norm="l2", says="w, along which the state is erased")]


def _signals(sizes: Sizes, o: Options) -> list[Signal]:
    return [beta(sizes.heads), *own_direction(sizes, o), *FORMS[o["decay"]]((), sizes.heads)]


def _build(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    direction = pieces.key if o["direction"] == "key" else a["direction"]
    return replace(pieces, evolution=Delta(direction, a["beta"], **decay_of(a, o["decay"]).named))


DELTA = Kind(
    "delta",
    "A_t = a_t (I - beta_t w_t w_t^T): what lies along w, the key or a direction of its own, is erased",
    _build,
    {"direction": Option(choice("key", "own"), "key"), "decay": option("none", none=True)},
    _signals,
    plain=True,
    decay=lambda a, o: decay_of(a, o["decay"]),
)
