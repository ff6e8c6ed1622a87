"""A_t moves the state: one cell a token (convolutions, windows), or into coarser levels (log-linear attention)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from mixerlens.design.inits import constant
from mixerlens.design.parts.evolution.decay import FORMS, decay_of, option
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, bounded, integer
from mixerlens.errors import InputError
from mixerlens.evolution import Fenwick, Shift
from mixerlens.shapes import spread

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def _register(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    return Pieces(pieces.query, pieces.key, pieces.written, pieces.scaling, Shift())


def _window(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    query = pieces.query.repeat(1, 1, 1, o["width"])
    written = pad(pieces.written, (0, (o["width"] - 1) * a.dim))
    return Pieces(query, pieces.key, written, pieces.scaling, Shift(block=a.dim))


def _window_signals(sizes: Sizes, o: Options) -> list[Signal]:
    bounded("evolution.width", sizes.heads * sizes.dim * o["width"])
    return []


def _levels(o: Options) -> int:
    return 1 + (o["length"] - 1).bit_length()


def _fenwick_signals(sizes: Sizes, o: Options) -> list[Signal]:
    told = {"transform": "softplus", "init": constant(1.0), "says": "the weight of each level of the past"}
    return [Signal("level_weights", (_levels(o),), sizes.heads, **told), *FORMS[o["decay"]]((), sizes.heads)]


def _fenwick(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    """The query is level_weights (x) q, the key enters at level 0."""
    if a.start + a.time > o["length"]:
        raise InputError(f"evolution.length: levels for {o['length']} tokens, there are {a.start + a.time}: raise it")
    levels, weights = _levels(o), a["level_weights"]
    heads = max(weights.shape[2], pieces.query.shape[2])
    query = spread(weights, heads, 2).unsqueeze(-1) * spread(pieces.query, heads, 2).unsqueeze(-2)
    written = pad(pieces.written, (0, (levels - 1) * a.dim))
    position = None
    if a.start:
        position = torch.arange(a.start, a.start + a.time, device=a.device)[None, :, None]
    evolution = Fenwick(levels, position=position, **decay_of(a, o["decay"]).named)
    return Pieces(query.flatten(-2), pieces.key, written, pieces.scaling, evolution)


REGISTER = Kind(
    "register",
    "A_t moves every number of the state one place down: with key e_1 the query is a filter's taps",
    _register,
    plain=True,
)
WINDOW = Kind(
    "window",
    "the state holds the last width impulses side by side: a window with a finite state",
    _window,
    {"width": Option(integer())},
    _window_signals,
)
FENWICK = Kind(
    "fenwick",
    "the past in buckets of doubling length, each read with a weight of its own, for up to ``length`` tokens",
    _fenwick,
    {"length": Option(integer(2), 2048), "decay": option("log_decay", none=True)},
    _fenwick_signals,
)
