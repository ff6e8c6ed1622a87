"""Block kinds around an inner evolution: a pending impulse that is read before it is written, or written twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.errors import InputError
from mixerlens.evolution.base import Carry, Evolution, Factors
from mixerlens.shapes import spread, tile, wide


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


@dataclass(frozen=True, eq=False)
class _PendingCarry(Carry):
    """(s, p) -> (through (first s + gain p), 0)."""

    through: Carry
    first: Carry
    gain: Tensor  # (batch | 1, heads | 1, 1, 1)

    def forward(self, state: Tensor) -> Tensor:
        s, p = state.chunk(2, -2)
        s = self.through.forward(self.first.forward(s) + self.gain * p)
        return torch.cat([s, torch.zeros_like(s)], -2)

    def backward(self, rows: Tensor) -> Tensor:
        s = self.through.backward(rows.chunk(2, -1)[0])
        return _joined([self.first.backward(s), self.gain * s], -1)


def _joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Joined on one of the last two axes, leading axes broadcast."""
    leading = torch.broadcast_shapes(*(x.shape[:-2] for x in parts))
    return torch.cat([x.expand(*leading, -1, -1) for x in parts], dim)


def _tokens(kind: Evolution) -> int:
    """How many tokens the parameters are for."""
    return max((x.shape[1] for x in kind.tensors().values()), default=1)


def _same(one: Evolution, other: Evolution) -> bool:
    """Equal kinds with equal parameters."""
    first, second = one.tensors(), other.tensors()
    return (
        type(one) is type(other)
        and first.keys() == second.keys()
        and all(first[name].shape == x.shape and torch.equal(first[name], x) for name, x in second.items())
    )


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
        it is I, also where E is the same at every token: whether one token of parameters stands for one or for all is
        not to be seen. A part of a sequence (``take_tokens``) has the E of the token before it.
    Eigenvalues: those of E_{t-1}, and 0 (n times), given once. Parameters of one token do not say how many tokens there
        are; without ``hi`` theirs are given once, those of E_{-1} where it is given, else those of E.
    """

    inner: Evolution
    previous: Evolution | None = None
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.previous is None:
            return
        if not isinstance(self.previous, Evolution):
            raise InputError(f"previous must be an evolution of one token, not {type(self.previous).__name__}")
        time = _tokens(self.previous)
        if time != 1:
            raise InputError(f"previous is what acted before the first token: give one token of it, not {time}")

    def check(self, dim: int) -> None:
        super().check(dim)
        if self.previous is not None:
            self.previous.check(dim // 2)

    def check_length(self, time: int) -> None:
        super().check_length(time)
        if time > 1 and self.previous is not None and self._one_map and not _same(self.previous, self.inner):
            raise InputError(
                f"previous is not the evolution that inner has for all of the {time} tokens: "
                "give inner its parameters token by token"
            )

    @property
    def _one_map(self) -> bool:
        """Where there is more than one token, E is the same at each."""
        return self.inner.time_invariant and not self.inner.begins

    def step(self, state: Tensor, t: int) -> Tensor:
        s, p = state.chunk(2, -2)
        merged = self._before(s, t) + p
        return torch.cat([merged, torch.zeros_like(merged)], -2)

    def _before(self, s: Tensor, t: int) -> Tensor:
        """E_{t-1} s."""
        if t > 0:
            return self.inner.step(s, t - 1)
        return s if self.previous is None else self.previous.step(s, 0)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        (read, own), (stays, enters) = query.chunk(2, -1), key.chunk(2, -1)
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64, device=query.device)
        first = self._carry_before(read[..., :1, :], stays[..., :1, :], lo)
        # behind its first token, token t of this kind applies what token t - 1 of the inner one does
        inner = self._inner(read[..., 1:, :], enters[..., :-1, :], lo, hi - 1)
        # what acts before the first token may have all heads where no token follows that would
        heads = max(query.shape[1], key.shape[1], *(s[2] for s in self.sizes().values()), inner.intra.shape[1])
        read, own, stays, enters = (spread(x, heads) for x in (read, own, stays, enters))
        emit = _joined([read[..., :1, :], spread(inner.emit, heads)], -2)
        intra = pad(spread(inner.intra, heads), (0, 1, 1, 0)) + torch.diag_embed((own * enters).sum(-1))
        inject = pad(spread(inner.inject, heads), (0, 0, 0, 1))
        if stays.requires_grad or bool(stays.any()):  # RWKV's keys have no such part
            again = self._inner(read[..., 1:, :], stays[..., 1:, :], lo, hi - 1)
            entered = inner.carry.forward(stays[..., :1, :].mT).mT.to(query.dtype)
            later = pad(spread(again.intra, heads), (0, 0, 1, 0))
            intra = intra + _joined([emit @ stays[..., :1, :].mT, later], -1)
            inject = inject + _joined([entered, spread(again.inject, heads)], -2)
        last = pad(enters[..., -1:, :], (0, 0, hi - lo - 1, 0))
        return Factors(
            intra=intra,
            emit=_joined([first.backward(emit).to(query.dtype), emit], -1),
            inject=_joined([inject, last], -1),
            carry=_PendingCarry(inner.carry, first, one),
        )

    def _inner(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        """The inner kind's factors, for no token at all too."""
        if lo < hi:
            return self.inner.factors(query, key, lo, hi)
        nothing = query.new_zeros(max(query.shape[0], key.shape[0]), 1, 0, 0)
        return Factors(nothing, query[:, :1], key[:, :1], Carry())

    def _carry_before(self, query: Tensor, key: Tensor, t: int) -> Carry:
        """E_{t-1}."""
        if t > 0:
            return self.inner.factors(query, key, t - 1, t).carry
        return Carry() if self.previous is None else self.previous.factors(query, key, 0, 1).carry

    @property
    def time_invariant(self) -> bool:
        return self._one_map

    @property
    def begins(self) -> bool:
        return True

    def take_tokens(self, lo: int, hi: int) -> Self:
        """Token lo still applies the map of the token before it."""
        previous = self.previous if lo == 0 else self.inner.take_tokens(lo - 1, lo)
        return replace(self, inner=self.inner.take_tokens(lo, hi), previous=previous)

    def fold(self, batch: int, lo: int, size: int, count: int) -> Self:
        before = self.inner.fold(batch, lo - 1, size, count).take_tokens(0, 1)
        return replace(self, inner=self.inner.fold(batch, lo, size, count), previous=before)

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        known = _tokens(self.inner)
        if known > 1:
            hi = known if hi is None else min(hi, known)
        first = self._eigenvalues_before()
        if hi is None:  # parameters of one token
            return _beside_zero(self.inner.eigenvalues() if first is None else first)
        later = self.inner.eigenvalues(max(lo - 1, 0), max(hi - 1, 1))
        if lo > 0:
            return _beside_zero(later)
        first = torch.ones_like(later[:, :1]) if first is None else first
        if hi == 1:
            return _beside_zero(first)
        modes = max(first.shape[-1], later.shape[-1])
        first, later = (torch.cat([x] + [x[..., -1:]] * (modes - x.shape[-1]), -1) for x in (first, later))
        batch, _, heads, _ = torch.broadcast_shapes(first.shape, later[:, :1].shape)
        parts = (first.expand(batch, 1, heads, -1), later.expand(batch, hi - 1, heads, -1))
        return _beside_zero(torch.cat(parts, 1))

    def _eigenvalues_before(self) -> Tensor | None:
        return None if self.previous is None else self.previous.eigenvalues(0, 1)


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

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        gain = wide(tile(self.gain, lo, hi)).unsqueeze(-1)
        heads = max(query.shape[1], key.shape[1], gain.shape[1])
        query, key = spread(query, heads), spread(key, heads)
        read, (now, later) = query.chunk(2, -1)[0], key.chunk(2, -1)
        # an impulse that has passed a token, at which its second part joined
        joined = now + pad(gain[..., 1:, :], (0, 0, 0, 1)).to(key.dtype) * later
        inner = self.inner.factors(read, joined, lo, hi)
        heads = max(heads, inner.intra.shape[1])
        emit, inject = spread(inner.emit, heads), spread(inner.inject, heads)
        start = gain[..., :1, :]
        return Factors(
            intra=spread(inner.intra, heads).tril(-1) + torch.diag_embed(spread((query * key).sum(-1), heads)),
            emit=_joined([emit, start.to(emit.dtype) * emit], -1),
            inject=_joined([inject, pad(spread(later, heads)[..., -1:, :], (0, 0, hi - lo - 1, 0))], -1),
            carry=_PendingCarry(inner.carry, Carry(), start),
        )

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        return _beside_zero(self.inner.eigenvalues(lo, hi))
