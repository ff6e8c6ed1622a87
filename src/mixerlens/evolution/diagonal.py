"""A_t = diag(a_t): one decay a state dimension (GLA, HGRN2, Mamba-1, S4D, LRU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.anchored import decayed_scores
from mixerlens.evolution.base import Diagonal as DiagonalCarry
from mixerlens.evolution.base import Evolution, Factors
from mixerlens.evolution.power_sums import power_sums
from mixerlens.shapes import spread, tile, wide


@dataclass(frozen=True, eq=False)
class Diagonal(Evolution):
    """A_t = diag(a_t), given in one of three ways.

    log_decay: a = exp(log_decay), (batch, time, heads, dim), leading axes may be left out.
    decay: a itself; zeros, negative and complex values are legal.
    rate and step: a = exp(step * rate) with rate (heads, dim) and step (batch, time, heads): Mamba and S4D keep this
        factored, so that length x channels x state is never held.

    The eigenvalues are a_t.
    """

    log_decay: Tensor | None = None
    decay: Tensor | None = None
    rate: Tensor | None = None
    step_size: Tensor | None = None
    chunk: ClassVar[int] = 32
    gates: ClassVar[tuple[str, ...]] = ("log_decay", "rate")

    def __post_init__(self) -> None:
        given = [name for name in ("log_decay", "decay", "rate") if getattr(self, name) is not None]
        if len(given) != 1 or (self.rate is None) != (self.step_size is None):
            raise InputError("give exactly one of log_decay, decay, or rate together with step_size")
        self.settle(dict.fromkeys(("log_decay", "decay", "rate"), 1))

    def factor(self, lo: int, hi: int) -> Tensor:
        """a_t in float64 (complex128): (batch, heads, hi - lo, dim)."""
        if self.decay is not None:
            return wide(tile(self.decay, lo, hi))
        if self.log_decay is not None:
            return torch.exp(wide(tile(self.log_decay, lo, hi)))
        assert self.rate is not None and self.step_size is not None
        return torch.exp(wide(tile(self.rate, lo, hi)) * wide(tile(self.step_size, lo, hi)).unsqueeze(-1))

    def step(self, state: Tensor, t: int) -> Tensor:
        return self.factor(t, t + 1)[:, :, 0, :, None].to(state.dtype) * state

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        a = self.factor(lo, hi)
        heads = max(query.shape[1], key.shape[1], a.shape[1])
        query, key = spread(query, heads), spread(key, heads)
        intra, forward, backward = decayed_scores(query, key, a)
        return Factors(
            intra=intra,
            emit=query * forward.to(query.dtype),
            inject=key * backward.to(key.dtype),
            carry=DiagonalCarry(forward[..., -1, :]),
        )

    def kernel(self, query: Tensor, key: Tensor, length: int, real: bool = False) -> Tensor | None:
        """sum_n q_n k_n a_n^l by two-level powers, in the precision of query and key; real: its real part only."""
        weight = wide(query) * wide(key)
        dtype = torch.promote_types(query.dtype, key.dtype)
        if self.decay is not None:
            base = wide(tile(self.decay, 0, 1))[:, :, 0]
            return power_sums(weight, length, base=base, dtype=dtype, real=real)
        return power_sums(weight, length, log=self._log_decay()[:, :, 0], dtype=dtype, real=real)

    def _log_decay(self) -> Tensor:
        """log a of a time-invariant a: (batch, heads, 1, dim)."""
        if self.log_decay is not None:
            return wide(tile(self.log_decay, 0, 1))
        assert self.rate is not None and self.step_size is not None
        return wide(tile(self.rate, 0, 1)) * wide(tile(self.step_size, 0, 1)).unsqueeze(-1)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        def part(x: Tensor) -> Tensor:
            return wide(x[:, lo:hi] if x.shape[1] > 1 else x)

        if self.decay is not None:
            return part(self.decay).to(torch.complex128)
        if self.log_decay is not None:
            return torch.exp(part(self.log_decay)).to(torch.complex128)
        assert self.rate is not None and self.step_size is not None
        return torch.exp(part(self.rate) * part(self.step_size).unsqueeze(-1)).to(torch.complex128)

    def check(self, dim: int) -> None:
        for name, x in self.tensors().items():
            if name != "step_size" and x.shape[-1] not in (1, dim):
                raise InputError(f"{name} has {x.shape[-1]} state dimensions, query and key have {dim}")
