"""A_t = a_t I and A_t = diag(a_t)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixerlens.design.inits import count
from mixerlens.design.parts.evolution.decay import FORMS, Decay, decay_of, option
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, flag
from mixerlens.errors import InputError
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.shapes import wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def _scalar(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    return replace(pieces, evolution=Scalar(**decay_of(a, o["decay"]).named))


def _diagonal_decay(a: Assembly, o: Options) -> Decay:
    """A decay a dimension, complex with ``frequency``."""
    decay = decay_of(a, o["decay"], dim=a.dim)
    if not o["frequency"]:
        return decay
    frequency = wide(a["frequency"])
    if decay.rate is not None and decay.step is not None:
        rate = torch.complex(*torch.broadcast_tensors(decay.rate, frequency))
        return Decay(log=rate * decay.step.unsqueeze(-1), rate=rate, step=decay.step)
    if decay.log is None:
        raise InputError("evolution.frequency: a frequency belongs to decay log_decay or rate, the logarithms")
    log = torch.complex(*torch.broadcast_tensors(decay.log, frequency))
    return Decay(log=log)


def _diagonal(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    decay = _diagonal_decay(a, o)
    if decay.rate is not None and decay.step is not None and decay.rate.shape[:2] == (1, 1):
        return replace(pieces, evolution=Diagonal(rate=decay.rate, step_size=decay.step))
    return replace(pieces, evolution=Diagonal(**decay.named))


def _diagonal_signals(sizes: Sizes, o: Options) -> list[Signal]:
    found = FORMS[o["decay"]]((sizes.dim,), sizes.heads)
    if o["grows"]:
        found = [replace(s, high=math.inf) if s.name in ("log_decay", "rate") else s for s in found]
    if o["frequency"]:
        start = count(0.0, torch.pi)
        told = {"source": "parameter", "init": start}
        found.append(
            Signal("frequency", (sizes.dim,), sizes.heads, **told, says="the imaginary part of log a_t or rate")
        )
    return found


def opened(decay: Decay) -> Tensor:
    """1 - a_t."""
    if decay.open is not None:
        return decay.open
    assert decay.log is not None
    if decay.log.is_complex():
        from mixerlens.families.ssm import expm1

        return -expm1(decay.log)
    return -torch.expm1(decay.log)


SCALAR = Kind(
    "scalar",
    "A_t = a_t I: one decay a head and token",
    _scalar,
    {"decay": option("log_decay")},
    lambda sizes, o: FORMS[o["decay"]]((), sizes.heads),
    plain=True,
    entry=lambda a, o: opened(decay_of(a, o["decay"])).unsqueeze(-1).expand(-1, -1, -1, a.dim),
    decay=lambda a, o: decay_of(a, o["decay"]),
)
DIAGONAL = Kind(
    "diagonal",
    "A_t = diag(a_t): one decay a dimension; with frequency a complex one, which turns; grows allows growth",
    _diagonal,
    {"decay": option("log_decay"), "frequency": Option(flag, False), "grows": Option(flag, False)},
    _diagonal_signals,
    plain=True,
    entry=lambda a, o: opened(_diagonal_decay(a, o)),
    decay=_diagonal_decay,
)
