"""The kinds of eta."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mixerlens.design.inits import constant
from mixerlens.design.parts.kind import Kind, Options, Sizes, table
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, choice, number
from mixerlens.errors import InputError
from mixerlens.normalizer import NoNormalizer, Normalizer, PerToken, RowSum, RowSumFloor, RowSumSink
from mixerlens.shapes import wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly

ACTIVATIONS = {"exp": "exp", "softplus": "softplus", "elu": "elu_plus_one", "sigmoid": "sigmoid"}


def _gate_signals(sizes: Sizes, o: Options) -> list[Signal]:
    transform = ACTIVATIONS[o["activation"]]
    return [Signal("eta", (), sizes.heads, transform=transform, low=0, init=constant(0.5), says="eta_i, from token i")]


def _sink_signals(sizes: Sizes, o: Options) -> list[Signal]:
    return [
        Signal("sink", (), sizes.heads, "parameter", init=constant(0.0), says="a score that takes mass, and no value")
    ]


def _floor(a: Assembly, o: Options) -> Normalizer:
    """In the unit of b: what was divided out of e^i is divided out of the floor, which leaves alpha as it is."""
    level = torch.full((1, 1, 1), o["floor"], dtype=torch.float64, device=a.device)
    return RowSumFloor(level if a.log_unit is None else torch.exp(-a.log_unit) * level)


def _sink(a: Assembly, o: Options) -> Normalizer:
    sink = a["sink"]
    if sink.shape[:2] != (1, 1):
        raise InputError(f"signal sink: shape {tuple(sink.shape)} must be (heads,): one score for all tokens")
    return RowSumSink(sink.flatten())


NORMALIZERS = table(
    Kind("none", "eta = 1", lambda a, o: NoNormalizer()),
    Kind("row_sum", "eta_i = sum_j phi(q_i^T u_ij)", lambda a, o: RowSum()),
    Kind(
        "row_sum_sink",
        "eta_i = sum_j phi(q_i^T u_ij) + s, s a learned score's a head",
        _sink,
        {},
        _sink_signals,
    ),
    Kind(
        "floor",
        "eta_i = max(|sum_j q_i^T u_ij|, floor)",
        _floor,
        {"floor": Option(number(0), 1.0)},
    ),
    Kind(
        "gate",
        "eta_i = activation(w^T x_i), made from the token alone",
        lambda a, o: PerToken(wide(a["eta"])),
        {"activation": Option(choice(*ACTIVATIONS), "exp")},
        _gate_signals,
    ),
)
