"""A memory with momentum: two states, the second the running gradient of the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from mixerlens.design.inits import constant
from mixerlens.design.parts.evolution.decay import FORMS, decay_of, option
from mixerlens.design.parts.evolution.delta import beta
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.evolution import Momentum

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def _signals(sizes: Sizes, o: Options) -> list[Signal]:
    told = {"transform": "sigmoid", "init": constant(0.5), "says": "how much of the last gradient goes on"}
    return [beta(sizes.heads), Signal("momentum", (), sizes.heads, **told), *FORMS[o["decay"]]((), sizes.heads)]


def _build(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    written = torch.cat([pieces.written, pieces.written], -1)
    evolution = Momentum(pieces.key, a["beta"], a["momentum"], **decay_of(a, o["decay"]).named)
    return Pieces(pad(pieces.query, (0, a.dim)), pieces.key, written, pieces.scaling, evolution)


MOMENTUM = Kind(
    "momentum",
    "on (M, S): S' = momentum S - beta k k^T M, M' = a M + S'; with scaling beta a gradient step with momentum",
    _build,
    {"decay": option("log_decay", none=True)},
    _signals,
)
