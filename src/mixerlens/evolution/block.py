"""Block kinds around an inner evolution: a pending impulse that is read before it is written, or written twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.base import Evolution
from mixerlens.shapes import tile, wide


class _Pending(Evolution):
    """Base of the kinds on a state (s, p) of 2 n numbers, p what entered at the last token and has not merged."""

    inner: Evolution

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Evolution):
            raise InputError(f"inner must be an evolution, not {type(self.inner).__name__}")

    def check(self, dim: int) -> None:
        if dim % 2:
            raise InputError(f"a state (s, p) of two halves has an even size, query and key have {dim} dimensions")
        self.inner.check(dim // 2)

    def check_length(self, time: int) -> None:
        self.inner.check_length(time)


def _beside_zero(values: Tensor) -> Tensor:
    """Eigenvalues of [[E, .], [0, 0]]: those of E, and 0 once."""
    return torch.cat([values, torch.zeros_like(values[..., :1])], -1)


@dataclass(frozen=True, eq=False)
class ReadBeforeWrite(_Pending):
    """A_t = [[E_{t-1}, I], [0, 0]] on (s, p): token t reads the state before it writes, and its own value beside.

    With queries (r, u r) and keys (0, k) the score is r_i^T E_{i-1} ... E_{j+1} k_j, and (u r_i)^T k_i at i = j:
    RWKV-4, 5 and 6.

    inner: E, any evolution on n = dim / 2 numbers.
    previous: E_{-1}, an evolution of one token. It acts only on a state from an earlier part of the sequence. Left out
        it is I, or E where E is the same at every token.
    Eigenvalues: those of E_{t-1}, and 0 (n times), given once.
    """

    inner: Evolution
    previous: Evolution | None = None
    chunk: ClassVar[int] = 32

    def step(self, state: Tensor, t: int) -> Tensor:
        s, p = state.chunk(2, -2)
        merged = self._before(s, t) + p
        return torch.cat([merged, torch.zeros_like(merged)], -2)

    def _before(self, s: Tensor, t: int) -> Tensor:
        """E_{t-1} s."""
        if t > 0:
            return self.inner.step(s, t - 1)
        if self.previous is not None:
            return self.previous.step(s, 0)
        return self.inner.step(s, 0) if self.inner.time_invariant else s

    @property
    def time_invariant(self) -> bool:
        return self.inner.time_invariant and self.previous is None

    def take_tokens(self, lo: int, hi: int) -> Self:
        """Token lo still applies the map of the token before it."""
        if lo == 0 or self.inner.time_invariant:
            previous = self.previous if lo == 0 else self.inner
        else:
            previous = self.inner.take_tokens(lo - 1, lo)
        return replace(self, inner=self.inner.take_tokens(lo, hi), previous=previous)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        values = self.inner.eigenvalues(max(lo - 1, 0), hi)
        if not self.time_invariant:
            last = max((x.shape[1] for x in self.inner.tensors().values()), default=1)
            hi = last if hi is None else min(hi, last)
            first = torch.ones_like(values[:, :1]) if self.previous is None else self.previous.eigenvalues()
            if lo == 0:
                values = torch.cat([first.expand_as(values[:, :1]), values.expand(-1, hi, -1, -1)[:, : hi - 1]], 1)
            else:
                values = values[:, : hi - lo]
        return _beside_zero(values)


@dataclass(frozen=True, eq=False)
class Trapezoid(_Pending):
    """A_t = [[E_t, gain_t E_t], [0, 0]] on (s, p): an impulse enters at its own token and once more at the next.

    With queries (q, 0) and keys (gamma k, k): S_t = E_t S_{t-1} + gain_t E_t k_{t-1} v_{t-1}^T + gamma_t k_t v_t^T, the
    trapezoidal rule of Mamba-3.

    inner: E, any evolution on n = dim / 2 numbers. gain: (batch, time, heads), leading axes may be left out.
    Eigenvalues: those of E_t, and 0 (n times), given once.
    """

    inner: Evolution
    gain: Tensor
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settle()

    def step(self, state: Tensor, t: int) -> Tensor:
        s, p = state.chunk(2, -2)
        gain = wide(tile(self.gain, t, t + 1))[..., None].to(state.dtype)
        s = self.inner.step(s + gain * p, t)
        return torch.cat([s, torch.zeros_like(s)], -2)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        return _beside_zero(self.inner.eigenvalues(lo, hi))
