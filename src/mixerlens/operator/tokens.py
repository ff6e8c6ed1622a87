"""What the tokens of a span bring to a scan by steps, with the heads as the long rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.exponential import exponential
from mixerlens.shapes import spread, tile, wide


class Tokens:
    """What ``count`` tokens bring, in memory that serves one span after the other: ``load`` fills it.

    query, key (time, batch | 1, 1, dim, heads | 1); gate, the scaling, (time, batch | 1, 1, 1, heads | 1). The gate is
    0 at padding, and so is the decay where a segment begins.
    """

    def __init__(self, d: CoefficientDynamics, count: int, kind: torch.dtype) -> None:
        self._dynamics, self._count, e = d, count, d.evolution
        self._rate: Tensor | None = None
        self._exp: Callable[..., object] = torch.exp
        self._spare: Tensor | None = None
        if isinstance(e, Diagonal) and e.rate is not None and e.rate.shape[1] == 1:
            rate = wide(_ahead(tile(e.rate, 0, 1)))
            self._exp, factor = exponential(rate.device, rate.dtype)
            self._rate = (rate * factor).contiguous()
        *rows, given = self._inputs(0)
        self.query, self.key, self.gate = (x.new_empty(x.shape, dtype=kind) for x in rows)
        self._given = given.new_empty(given.shape, dtype=wide(given[:0]).dtype)
        self._keeps = None if d.support.segments is None else self.gate.new_empty(count, d.batch, 1, 1, 1)

    def load(self, lo: int) -> None:
        """From now on these are the tokens from ``lo`` on."""
        for held, x in zip((self.query, self.key, self.gate, self._given), self._inputs(lo), strict=True):
            held.copy_(x)
        if self._keeps is not None:
            assert self._dynamics.support.segments is not None
            segments = self._dynamics.support.segments.to(self.gate.device).mT[..., None, None, None]
            here = segments[lo : lo + self._count]  # (time, batch, 1, 1, 1)
            before = torch.cat([segments[max(lo - 1, 0)][None], here[:-1]])
            self._keeps.copy_((here == before) & (here >= 0))
            self.gate = self.gate * (here >= 0)

    def decays(self, tokens: slice, room: Tensor) -> Decays:
        """The decays of some of these tokens. Formed where it is needed: in `room`, if that has their shape, else in
        memory that all of them share."""
        given, keeps = self._given[tokens], None if self._keeps is None else self._keeps[tokens]
        if self._rate is None and keeps is None:
            return Decays(given, None, None, given, self._exp)
        if keeps is not None:  # steps that sequences share are no longer shared
            given = given.expand(torch.broadcast_shapes(given.shape, keeps.shape))
        shape = given.shape if self._rate is None else torch.broadcast_shapes(given.shape, self._rate.shape)
        dtype = given.dtype if self._rate is None else self._rate.dtype
        if room.shape != shape or room.dtype != dtype:
            if self._spare is None or len(self._spare) < shape[0]:
                self._spare = given.new_empty(shape, dtype=dtype)
            room = self._spare[: shape[0]]
        return Decays(given, self._rate, keeps, room, self._exp)

    def _inputs(self, lo: int) -> Iterator[Tensor]:
        """Query, key, scaling, and decays or the steps that they are formed from."""
        d, hi, e = self._dynamics, lo + self._count, self._dynamics.evolution
        for x in (d.query, d.key):
            yield _ahead(spread(once(tile(x, lo, hi)), d.heads))
        gate = torch.ones(1, 1, self._count, device=d.device) if d.scaling is None else tile(d.scaling, lo, hi)
        yield _ahead(gate.unsqueeze(-1))
        if self._rate is not None:
            assert isinstance(e, Diagonal) and e.step_size is not None
            yield _ahead(tile(e.step_size, lo, hi).unsqueeze(-1))
        else:
            assert isinstance(e, Diagonal | Scalar)
            a = e.factor(lo, hi)
            yield _ahead(a.unsqueeze(-1) if isinstance(e, Scalar) else a)


@dataclass(frozen=True, eq=False)
class Decays:
    """a (time, batch | 1, 1, dim | 1, heads | 1) of some tokens, in `formed` once it is asked for."""

    given: Tensor
    rate: Tensor | None
    keeps: Tensor | None
    formed: Tensor
    exp: Callable[..., object]  # of given times rate

    def form(self) -> None:
        if self.rate is not None:
            self.exp(torch.mul(self.given, self.rate, out=self.formed), out=self.formed)
        if self.keeps is not None:
            torch.mul(self.given if self.rate is None else self.formed, self.keeps, out=self.formed)


def once(x: Tensor) -> Tensor:
    """(batch, heads, ...) with one head where all of them are the same numbers in memory."""
    return x[:, :1] if x.stride(1) == 0 else x


def _ahead(x: Tensor) -> Tensor:
    """(batch, heads, time, dim) -> (time, batch, 1, dim, heads)."""
    return x.permute(2, 0, 3, 1).unsqueeze(2)
