"""What the tokens of a span bring to a scan by steps, with the heads as the long rows."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.shapes import spread, tile, wide


class Tokens:
    """What the tokens of a span bring: query, key (time, batch | 1, 1, dim | 1, heads | 1) and gate, the scaling,
    (time, batch | 1, 1, 1, heads | 1). It is 0 at padding, and so is the decay where a segment begins."""

    def __init__(self, d: CoefficientDynamics, lo: int, hi: int, room: Tensor) -> None:
        kind, self._room, self._rate = room.dtype, room, None
        gate = torch.ones(1, 1, hi - lo, device=d.device) if d.scaling is None else tile(d.scaling, lo, hi)
        rows = (*(spread(tile(x, lo, hi), d.heads) for x in (d.query, d.key)), gate.unsqueeze(-1))
        self.query, self.key, self.gate = (_ahead(x.to(kind)) for x in rows)
        self.keeps: Tensor | None = None
        if d.support.segments is not None:
            segments = d.support.segments.to(d.device).mT[..., None, None, None]  # (time, batch, 1, 1, 1)
            here, before = segments[lo:hi], torch.cat([segments[max(lo - 1, 0)][None], segments[lo : hi - 1]])
            self.keeps, self.gate = (here == before) & (here >= 0), self.gate * (here >= 0)
        e = d.evolution
        if isinstance(e, Diagonal) and e.rate is not None and e.step_size is not None and e.rate.shape[1] == 1:
            self._rate = wide(_ahead(tile(e.rate, lo, lo + 1))).contiguous()
            self._given = _ahead(tile(e.step_size, lo, hi).unsqueeze(-1)).contiguous()
        else:
            assert isinstance(e, Diagonal | Scalar)
            a = e.factor(lo, hi)
            self._given = _ahead(a.unsqueeze(-1) if isinstance(e, Scalar) else a).contiguous()
        turns = self._rate is not None and self._rate.is_complex()
        forming = wide(room[:0]).dtype if turns else kind  # phases of single precision would be off
        self._narrow = self._given.to(forming), None if self._rate is None else self._rate.to(forming)

    def decays(self, tokens: slice) -> Tensor:
        """a (time, batch | 1, 1, dim | 1, heads | 1) of some tokens of the span, to be overwritten."""
        given, rate = self._narrow
        a = given[tokens]
        if rate is None:
            return a.clone() if self.keeps is None else a * self.keeps[tokens]
        shape = torch.Size([a.shape[0], max(a.shape[1], rate.shape[1]), 1, rate.shape[3], a.shape[4]])
        room = self._room[: shape[0]]
        own = room.shape == shape and room.dtype == rate.dtype
        a = torch.mul(a, rate, out=room if own else None).exp_().to(room.dtype)
        return a if self.keeps is None else a * self.keeps[tokens]

    def total(self, tokens: slice) -> Tensor:
        """The product of their decays in float64 (complex128): (batch | 1, 1, dim | 1, heads | 1)."""
        a = wide(self._given[tokens])
        total = a.prod(0) if self._rate is None else (a.sum(0) * self._rate[0]).exp_()
        return total if self.keeps is None else total * self.keeps[tokens].all(0)


def _ahead(x: Tensor) -> Tensor:
    """(batch, heads, time, dim) -> (time, batch, 1, dim, heads)."""
    return x.permute(2, 0, 3, 1).unsqueeze(2)
