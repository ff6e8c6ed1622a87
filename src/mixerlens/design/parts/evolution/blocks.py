"""Blocks around an inner evolution: an impulse that waits a token before it merges, or enters at two tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixerlens.design.inits import constant, normal
from mixerlens.design.parts.evolution.inner import INNER, inner_signals
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.errors import InputError
from mixerlens.evolution import Evolution, Identity, ReadBeforeWrite, Trapezoid
from mixerlens.families.weights import weighted
from mixerlens.shapes import spread, wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def _waiting_signals(sizes: Sizes, o: Options) -> list[Signal]:
    told = {"init": normal(0.1), "says": "how much of its own token the query reads, a dimension"}
    return [Signal("bonus", (sizes.dim,), sizes.heads, "parameter", **told), *inner_signals(sizes, o)]


def _waiting(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    """Queries (q, u q) and keys (0, k)."""
    own = weighted(query=pieces.query, bonus=a["bonus"]).to(pieces.query.dtype)
    query = spread(pieces.query, own.shape[2], 2).expand_as(own)
    written = torch.cat([torch.zeros_like(pieces.written), pieces.written], -1)
    inner = a.inner(o["inner"], pieces)
    evolution = ReadBeforeWrite(inner, previous=_previous(a, o, inner))
    return Pieces(torch.cat([query, own], -1), pieces.key, written, pieces.scaling, evolution)


def _previous(a: Assembly, o: Options, inner: Evolution) -> Evolution | None:
    """What acted at the token before the first: the same map where it is constant, else that of ``before``."""
    named = [s.name for s in inner_signals(Sizes(a.spec.heads, a.dim), o)]
    sources = {a.spec.all_signals[name].source for name in named}
    if o["inner"].kind != "delta" and sources <= {"parameter", "constant"}:
        return inner if all(x.shape[1] == 1 for x in inner.tensors().values()) else None
    if a.previous is None:
        if a.start > 0:
            raise InputError(f"signals start at token {a.start}: give ``before``, the signals of the token before it")
        return None
    before = a.previous
    return before.inner(o["inner"], Pieces(before.query, before.key, before.key, None, Identity()))


def _trapezoid_signals(sizes: Sizes, o: Options) -> list[Signal]:
    told = {"transform": "sigmoid", "low": 0, "high": 1, "init": constant(0.5)}
    weight = Signal("trapezoid", (), sizes.heads, **told, says="1: all of a token enters at once, 0: at the next")
    return [weight, *inner_signals(sizes, o)]


def _trapezoid(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    """Queries (q, 0), keys (w step k, k), gain (1 - w) step."""
    if "step" not in a.spec.all_signals:
        raise InputError("evolution trapezoid: its inner evolution needs decay 'rate', whose step weighs the writes")
    weight, step = a["trapezoid"], a["step"]
    now = (weight * step).unsqueeze(-1)
    key = spread(pieces.written, max(now.shape[2], pieces.written.shape[2]), 2)
    leading = torch.broadcast_shapes(now.shape[:3], key.shape[:3])
    written = torch.cat([(now * key).to(key.dtype), key.expand(*leading, -1)], -1)
    evolution = Trapezoid(a.inner(o["inner"], pieces), gain=(1 - wide(weight)) * wide(step))
    return Pieces(_beside_zeros(pieces.query), pieces.key, written, pieces.scaling, evolution)


def _beside_zeros(x: Tensor) -> Tensor:
    return torch.cat([x, torch.zeros_like(x)], -1)


READ_BEFORE_WRITE = Kind(
    "read_before_write",
    "token t reads the state before it writes, and its own value with a learned bonus u: RWKV-4 to 6",
    _waiting,
    INNER,
    _waiting_signals,
)
TRAPEZOID = Kind(
    "trapezoid",
    "a token enters with w step at its own token and with (1 - w) step at the next: the trapezoidal rule",
    _trapezoid,
    INNER,
    _trapezoid_signals,
)
