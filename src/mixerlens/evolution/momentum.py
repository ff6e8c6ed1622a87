"""A state with momentum: the linear memory of Titans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.errors import InputError
from mixerlens.evolution.anchored import decay_matrix
from mixerlens.evolution.base import Factors
from mixerlens.evolution.correction import aligned, corrected
from mixerlens.evolution.scalar import Decayed
from mixerlens.shapes import spread, tile, wide


class _Chain:
    """P_t = [[a_t I, momentum_t I], [0, momentum_t I]], both (..., c). Products of such 2 x 2 matrices between any two
    tokens, the one before the chunk among them: c + 1 places."""

    def __init__(self, a: Tensor, momentum: Tensor) -> None:
        a, momentum = torch.broadcast_tensors(*(pad(x, (1, 0), value=1.0) for x in (a, momentum)))
        self.own, self.moving = decay_matrix(a, a.dtype)[0], decay_matrix(momentum, a.dtype)[0]
        # what leaves S at token m has come from S by the decays of S and goes on by those of M
        self.across = self.own @ self.moving.tril(-1)

    def scores(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
        memory, moving = torch.stack(list(queries), -3).unsqueeze(-3).chunk(2, -1)
        into_memory, into_moving = torch.stack(list(keys), -3).unsqueeze(-4).chunk(2, -1)
        own, across, kept = (x[..., None, None, 1:, 1:] for x in (self.own, self.across, self.moving))
        crossing = memory @ into_moving.mT * across
        return memory @ into_memory.mT * own + crossing + moving @ into_moving.mT * kept

    def read(self, rows: Tensor) -> Tensor:
        own, across, kept = (x[..., 1:, :1] for x in (self.own, self.across, self.moving))
        memory, moving = rows.chunk(2, -1)
        return torch.cat([memory * own, memory * across + moving * kept], -1)

    def leave(self, columns: Tensor) -> Tensor:
        own, across, kept = (x[..., -1, 1:, None] for x in (self.own, self.across, self.moving))
        memory, moving = columns.chunk(2, -1)
        return torch.cat([memory * own + moving * across, moving * kept], -1)

    def whole(self, dim: int) -> Tensor:
        own, across, kept = (x[..., -1, :1, None] for x in (self.own, self.across, self.moving))
        one = torch.eye(dim // 2, dtype=own.dtype, device=own.device)
        rows = ([one * own, one * across], [torch.zeros_like(one * kept), one * kept])
        return torch.cat([torch.cat(row, -1) for row in rows], -2)


@dataclass(frozen=True, eq=False)
class Momentum(Decayed):
    """On (M, S): S' = momentum S - rate w w^T M, then M' = a M + S'.

    A_t = [[a I - rate w w^T, momentum I], [-rate w w^T, momentum I]], one gradient step with momentum on
    |w^T M - v^T|^2 / 2, where the impulse (rate w, rate w) brings in v (arXiv 2501.00663 with a linear memory).

    direction: w, (batch, time, heads | groups, n), used as given, n = dim / 2.
    rate, momentum: (batch, time, heads). log_decay or decay (batch, time, heads): a_t, 1 when both are left out.
    Eigenvalues, four a token: a and momentum (n - 1 times each, given once, left out where n = 1), and the two roots of
    x^2 - (a + momentum - rate |w|^2) x + a momentum.
    """

    direction: Tensor
    rate: Tensor
    momentum: Tensor
    log_decay: Tensor | None = None
    decay: Tensor | None = None
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        self.settle({"direction": 1})

    def step(self, state: Tensor, t: int) -> Tensor:
        heads = max(state.shape[1], self.direction.shape[2])
        w = spread(tile(self.direction, t, t + 1), heads).to(state.dtype)
        rate, momentum = (tile(x, t, t + 1)[..., None].to(state.dtype) for x in (self.rate, self.momentum))
        memory, moving = state.chunk(2, -2)
        moving = momentum * moving - rate * (w.mT @ (w @ memory))
        memory = (memory if self.scalar is None else self.scalar.step(memory, t)) + moving
        return torch.cat([memory, moving.expand_as(memory)], -2)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        one = torch.ones(1, 1, hi - lo, dtype=torch.float64, device=query.device)
        a = one if self.scalar is None else self.scalar.factor(lo, hi)
        tiles = (a, tile(self.momentum, lo, hi), tile(self.rate, lo, hi), tile(self.direction, lo, hi), query, key)
        a, momentum, rate, w, wide_query, wide_key = aligned(*tiles)
        left, right = torch.cat([w, w], -1) * -rate.unsqueeze(-1), torch.cat([w, torch.zeros_like(w)], -1)
        return corrected(_Chain(a, momentum), wide_query, wide_key, left, right).to(query.dtype)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        def part(x: Tensor) -> Tensor:
            return wide(x[:, lo:hi] if x.shape[1] > 1 else x)

        w, rate, momentum = part(self.direction), part(self.rate), part(self.momentum).to(torch.complex128)
        one = torch.ones(1, 1, 1, dtype=torch.complex128, device=w.device)
        a = one if self.scalar is None else self.scalar.eigenvalues(lo, hi)[..., 0]
        pull = rate * spread(w.square().sum(-1), max(x.shape[2] for x in (a, momentum, rate, w)), axis=2)
        half = (a + momentum - pull) / 2
        root = torch.sqrt(half.square() - a * momentum)
        # the larger root by the sum that does not cancel, the other by their product
        larger = torch.where((half.conj() * root).real >= 0, half + root, half - root)
        smaller = torch.where(larger == 0, 0, a * momentum / torch.where(larger == 0, 1, larger))
        others = [a, momentum] if w.shape[-1] > 1 else []
        return torch.stack(torch.broadcast_tensors(larger, smaller, *others), -1)

    def check(self, dim: int) -> None:
        if dim != 2 * self.direction.shape[-1]:
            n = self.direction.shape[-1]
            raise InputError(f"memory and momentum of {n} numbers need {2 * n} dimensions, query and key have {dim}")
