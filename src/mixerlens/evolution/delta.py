"""A_t = a_t (I - beta_t w_t w_t^T): the delta rule, gated or not (DeltaNet, gated DeltaNet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.base import Factors
from mixerlens.evolution.correction import ScalarChain, StillChain, aligned, corrected
from mixerlens.evolution.erasure import erased, own
from mixerlens.evolution.scalar import Decayed
from mixerlens.shapes import spread, tile, wide, working


@dataclass(frozen=True, eq=False)
class Delta(Decayed):
    """A_t = a_t (I - beta_t w_t w_t^T).

    direction: w, (batch, time, heads | groups, dim); used as given (callers normalise).
    beta: (batch, time, heads). log_decay or decay (batch, time, heads): a_t, 1 when both are left out.
    Eigenvalues, two a token: a (1 - beta |w|^2) once, and a with multiplicity dim - 1.

    A chunk is closed by one triangular solve (see ``correction``), formed in float64 and cast.
    """

    direction: Tensor
    beta: Tensor
    log_decay: Tensor | None = None
    decay: Tensor | None = None
    chunk: ClassVar[int] = 32

    def __post_init__(self) -> None:
        self.settle({"direction": 1})

    def step(self, state: Tensor, t: int) -> Tensor:
        heads = max(state.shape[1], self.beta.shape[2], self.direction.shape[2])
        w = spread(tile(self.direction, t, t + 1), heads).to(state.dtype)
        beta = tile(self.beta, t, t + 1)[..., None].to(state.dtype)
        state = state - w.mT @ (beta * (w @ state))
        return state if self.scalar is None else self.scalar.step(state, t)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        beta, w = tile(self.beta, lo, hi), tile(self.direction, lo, hi)
        a = None if self.scalar is None else self.scalar.factor(lo, hi)
        decays = [] if a is None else [a]
        heads = max(x.shape[1] for x in (query, key, w, beta, *decays))
        read, impulse, erase = (spread(x, heads) for x in (query, key, w))
        if own(read, impulse, erase, beta, *decays):
            return erased(a, read, impulse, beta if a is None else a * beta).to(query.dtype)
        beta, w, query_, key_, *decays = aligned(beta, w, query, key, *decays)
        chain = ScalarChain(decays[0]) if decays else StillChain()
        beta = decays[0] * beta if decays else beta
        return corrected(chain, query_, key_, -beta.unsqueeze(-1) * w, w).to(query.dtype)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        def part(x: Tensor) -> Tensor:
            return wide(x[:, lo:hi] if x.shape[1] > 1 else x)

        along = _along(part(self.direction), part(self.beta))
        if self.direction.shape[-1] == 1:
            values = along[..., None]
        else:
            values = torch.stack([along, torch.ones_like(along)], -1)
        return self._decayed(values.to(torch.complex128), lo, hi)

    def norms(self) -> Tensor:
        """The norm of each A_t, which is symmetric: its largest |eigenvalue|, in the parameters' own precision.

        (batch | 1, time | 1, heads | groups)
        """
        w = self.direction.to(working(self.direction.dtype))
        norms = _along(w, self.beta).abs()
        if w.shape[-1] > 1:
            norms = norms.clamp(min=1)
        return norms if self.scalar is None else self._decayed(norms[..., None], 0, None)[..., 0].abs()

    def check(self, dim: int) -> None:
        if self.direction.shape[-1] != dim:
            raise InputError(f"direction has {self.direction.shape[-1]} dimensions, query and key have {dim}")


def _along(direction: Tensor, beta: Tensor) -> Tensor:
    """The eigenvalue 1 - beta |w|^2 of the direction itself, without decay."""
    square = torch.einsum("...i,...i->...", direction, direction)
    return 1 - beta * spread(square, max(beta.shape[2], square.shape[2]), axis=2)
