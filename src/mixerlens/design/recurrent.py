"""One token at a time: the recurrence of any mixer that has a finite one, with its cache.

    S_t = A_t S_{t-1} + b_t k_t v_t^T,   y_t = phi(S_t^T q_t) / eta_t     phi linear, or lifted to a linear one

A row sum needs one more column, sum_j u_j; a window needs the impulses and values inside it, and no lifting. Everything
else grows with the sequence: an error then names the theorem and the measured rank, unless the caller asks for a cache
that grows, which holds the impulses and values of all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from mixerlens.composition import Mixer, weigh
from mixerlens.design.lifting import finite, lift
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.measures.rank import StateRank, state_rank
from mixerlens.normalizer import NoNormalizer, PerToken, RowSum, RowSumFloor
from mixerlens.readout import RealPart, Relu
from mixerlens.shapes import spread, tile, wide

__all__ = ["Memory", "Near", "advance", "has_recurrence", "in_unit", "refusal", "rescaled"]

THEOREM = (
    "an exact causal linear recurrence with N numbers a value channel exists if and only if "
    "max_t rank alpha[t:, :t] <= N (state-rank criterion), and for states of 2 or more numbers "
    "only polynomial readouts keep that rank bounded"
)


@dataclass(frozen=True, eq=False)
class Memory:
    """S after a token: (batch, heads, dim, value_dim), one column more under a row sum; float64 or complex128."""

    state: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.state,)


@dataclass(frozen=True, eq=False)
class Near:
    """What a window still sees, or all of the past: impulses (batch, heads, dim, tokens) moved on by the evolution, and
    values (batch, heads, tokens, value_dim)."""

    impulses: Tensor
    values: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.impulses, self.values)


Held: TypeAlias = Memory | Near


def has_recurrence(mixer: Mixer) -> bool:
    """Whether every part of the mixer has a finite recurrence for every input."""
    return mixer.causal and all(_finite(d) for d, _ in mixer.terms)


def _finite(d: CoefficientDynamics) -> bool:
    return d.support.window is not None or finite(d.readout, d.dim)


def advance(
    mixer: Mixer, value: Tensor, held: tuple[Held, ...] | None, growing: bool = False
) -> tuple[Tensor, tuple[Held, ...]]:
    """y (batch, 1, heads, value_dim) of one token, and what is held after it.

    mixer: the dynamics of this one token, whose A_0 is what acts between the token before it and this one. value
    (batch, 1, heads | kv_heads, value_dim). held: what the call for the token before returned, None for the first.
    growing: where no finite recurrence exists, hold the whole past. Otherwise, and where later tokens are read, this
    raises UnsupportedError.
    """
    if mixer.time != 1 or value.dim() != 4 or value.shape[1] != 1:
        raise InputError(f"one token at a time: the mixer has {mixer.time} tokens, the value is {tuple(value.shape)}")
    total, after = None, []
    for k, (d, weight) in enumerate(mixer.terms):
        if not (has_recurrence(d) or (growing and d.causal)):
            raise UnsupportedError(refusal(None, d))
        before = None if held is None else held[k]
        v = wide(spread(value.transpose(1, 2), d.heads))
        v = v.expand(max(d.batch, v.shape[0]), d.heads, -1, -1)
        kept = d.support.window is not None or not finite(d.readout, d.dim)
        y, now = (_within if kept else _through)(d, v, before)
        y = weigh(y, weight)
        total = y if total is None else total + y
        after.append(now)
    assert total is not None
    dtype = torch.promote_types(mixer.coefficient_dtype, value.dtype)
    return total.to(dtype).transpose(1, 2), tuple(after)


def in_unit(d: CoefficientDynamics, log_ratio: Tensor) -> CoefficientDynamics:
    """The same coefficients with impulses, and a floor under their sum, times exp(log_ratio) (batch, 1, heads).

    Under a row sum alpha stays as it is; without one alpha is multiplied.
    """
    ratio = torch.exp(wide(log_ratio))
    scaling = ratio if d.scaling is None else wide(d.scaling) * ratio
    normalizer = d.normalizer
    if isinstance(normalizer, RowSumFloor):
        normalizer = RowSumFloor(wide(normalizer.floor) * ratio)
    return replace(d, scaling=scaling, normalizer=normalizer)


def rescaled(held: tuple[Held, ...], log_ratio: Tensor) -> tuple[Held, ...]:
    """What is held, with its impulses times exp(log_ratio) (batch, 1, heads)."""
    ratio = torch.exp(wide(log_ratio)).transpose(1, 2).unsqueeze(-1)
    return tuple(
        Memory(h.state * ratio) if isinstance(h, Memory) else replace(h, impulses=h.impulses * ratio) for h in held
    )


def _impulse(d: CoefficientDynamics) -> Tensor:
    """b k of the token: (batch, heads, dim, 1), float64."""
    key = wide(spread(tile(d.key, 0, 1), d.heads))
    if d.scaling is not None:
        key = key * wide(tile(d.scaling, 0, 1)).unsqueeze(-1)
    return key.expand(-1, d.heads, -1, -1).mT


def _query(d: CoefficientDynamics) -> Tensor:
    """(batch, heads, 1, dim), float64."""
    return wide(spread(tile(d.query, 0, 1), d.heads)).expand(-1, d.heads, -1, -1)


def _through(given: CoefficientDynamics, value: Tensor, held: Held | None) -> tuple[Tensor, Memory]:
    """A state: value (batch, heads, 1, m)."""
    d, summed = lift(given), isinstance(given.normalizer, RowSum)
    if value.is_complex() and isinstance(d.readout, RealPart):
        raise UnsupportedError("complex values with a real-part readout have two states: give each part by itself")
    columns = torch.cat([value, torch.ones_like(value[..., :1])], -1) if summed else value
    state = _impulse(d) * columns
    if held is not None:
        assert isinstance(held, Memory)
        dtype = torch.promote_types(held.state.dtype, wide(torch.zeros((), dtype=d.dtype)).dtype)
        state = d.evolution.step(held.state.to(dtype), 0) + state
    y = d.readout(_query(d).to(state.dtype) @ state)
    if summed:
        assert isinstance(d.normalizer, RowSum)
        y, total = y[..., :-1], y[..., -1:]
        eta = d.normalizer.eta(total, d.readout, (0, 1))
        if isinstance(given.readout, Relu):  # no token has a positive score: such a row has nothing to share out
            y, eta = torch.where(total == 0, 0, y), torch.where(eta == 0, 1, eta)
        return y / eta, Memory(state)
    eta = _eta(d, y)
    return y if eta is None else y / eta, Memory(state)


def _within(d: CoefficientDynamics, value: Tensor, held: Held | None) -> tuple[Tensor, Near]:
    """A window, or all of the past: the scores of what is held are formed again at each token."""
    impulses, values = _impulse(d), value
    if held is not None:
        assert isinstance(held, Near)
        moved = d.evolution.step(held.impulses.to(torch.promote_types(held.impulses.dtype, impulses.dtype)), 0)
        impulses = torch.cat([moved, impulses.expand(*moved.shape[:2], -1, -1).to(moved.dtype)], -1)
        values = torch.cat([held.values, value.to(held.values.dtype)], -2)
    scores = _query(d).to(impulses.dtype) @ impulses
    everything = torch.ones(1, 1, 1, scores.shape[-1], dtype=torch.bool, device=scores.device)
    alpha = d.normalizer.coefficients(d.readout, scores, everything.expand(scores.shape), (0, 1))
    y = alpha.to(torch.promote_types(alpha.dtype, values.dtype)) @ values.to(alpha.dtype)
    window, tokens = d.support.window, values.shape[-2]
    first = 0 if window is None else max(0, tokens - (window - 1))  # of those that the next token sees
    return y, Near(impulses[..., first:], values[..., first:, :])


def _eta(d: CoefficientDynamics, like: Tensor) -> Tensor | None:
    """eta (batch, heads, 1, 1) where it is given; None where it is 1."""
    if isinstance(d.normalizer, PerToken):
        return d.normalizer.rows((0, 1), like)
    if type(d.normalizer) is not NoNormalizer:
        raise UnsupportedError(f"normaliser {type(d.normalizer).__name__} has no recurrence here")
    return None


def refusal(name: str | None, mixer: Mixer) -> str:
    """One line: why the mixer has no finite recurrence, with the theorem and the state rank of these dynamics."""
    what = "this mixer" if name is None else name
    if not mixer.causal:
        return f"{what} has no recurrent form: it reads later tokens, and a state holds earlier ones only"
    part = next(d for d, _ in mixer.terms if not _finite(d))
    line = f"{what} has no recurrent form: its readout {part.readout} is no polynomial; {THEOREM}"
    if part.time < 2 * max(2, part.dim):
        return line
    found = measured(part)
    each = zip(found.tolerances, found.ranks.amax(0).tolist(), found.at_cap.any(0).tolist(), strict=True)
    ranks = ", ".join(f"{rank}{'+' * capped} at {tolerance:.0e}" for tolerance, rank, capped in each)
    return f"{line}; measured here on {found.tokens} tokens (cap {found.cap}) with dim {part.dim}: {ranks}"


def measured(d: CoefficientDynamics) -> StateRank:
    """The state rank of one sequence at 1e-3, 1e-6 and 1e-10."""
    return state_rank(d.detach(), cuts=5)
