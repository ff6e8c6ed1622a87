"""Principle 1, readout: which phi lets a state of fixed size carry the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import MemoryBudgetError, UnsupportedError
from mixerlens.evolution import Fenwick, Shift
from mixerlens.measures.rank import TOLERANCES, StateRank, state_rank
from mixerlens.operator.apply import eta_of, normalizer_rows
from mixerlens.principles.parts import keys, one_run, queries, spread_text
from mixerlens.principles.record import Condition, Counterexample, Principle
from mixerlens.readout import Exp, Polynomial, RealPart, Relu, Sigmoid, Softcap
from mixerlens.readout import Identity as IdentityReadout

LONGEST = 512  # tokens looked at: the cost is their cube for a readout without finite state
PLATEAU, GROWS, CAPPED, SHORT = "plateau", "grows", "at the cap", "too short"
EVERY = 1 << 23  # heads x tokens^2 x dimensions up to which a recurrent mixer is cut at every token
NO_POLYNOMIAL = (Exp, Relu, Sigmoid, Softcap)  # no polynomials, so no finite state for n >= 2


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadoutPrinciple(Principle):
    """lengths: T. ranks: (heads, lengths, tolerances) int, the largest rank of the cuts looked at among the first T
    tokens, those of shorter lengths among them; lower_bound: not every cut was, so that it is at least this.

    verdicts: (heads, tolerances) words: "plateau" (the last two lengths agree, and both are at least four times the
        rank), "grows" (from one below its cap), "at the cap" (T / 2, the largest rank that T tokens can show), "too
        short" (none of these).
    finite: numbers a value channel that an exact recurrence carries, by theory; None where there is none.
    gap: largest difference of the parallel and the recurrent form over the largest output, (heads,); None where no
        recurrent form exists or its state does not fit. gap_tokens: on how many tokens.
    """

    lengths: tuple[int, ...]
    tolerances: tuple[float, ...]
    ranks: Tensor
    lower_bound: bool
    caps: tuple[int, ...]
    verdicts: tuple[tuple[str, ...], ...]
    finite: int | None
    gap: Tensor | None
    gap_tokens: int

    number: ClassVar[int] = 1
    title: ClassVar[str] = "Readout"
    headline: ClassVar[str] = "ranks"
    wording: ClassVar[str] = "Only a linear readout permits recurrent computation."
    theorem: ClassVar[str] = (
        "alpha has an exact causal linear recurrence with N numbers a value channel if and only if every block "
        "alpha[t:, :t] has rank at most N. A linear phi gives N = n, a polynomial sum over its degrees e of "
        "C(n + e - 1, e) by lifting to symmetric powers, a window of W tokens at most W - 1 for any phi; for n = 1 "
        "relu gives 2. For n >= 2 no other measurable phi has a finite N that serves every input."
    )
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2510.09389", "arXiv 2402.18668")
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="Only a linear readout permits recurrent computation.",
            shows="1 + z + z^2 / 2 is not linear, and on three dimensions it needs 10 numbers, however long the text.",
            code="""\
import torch
from mixerlens import CoefficientDynamics
from mixerlens.readout import Polynomial

draw = torch.Generator().manual_seed(0)
query, key = (torch.randn(1, 256, 1, 3, dtype=torch.float64, generator=draw) for _ in range(2))
mixer = CoefficientDynamics(query, key, readout=Polynomial((1, 1, 0.5)))
ranks = [int(mixer.select_tokens(0, time).operator().state_rank(1e-10)) for time in (64, 128, 256)]
assert ranks == [10, 10, 10]
""",
        ),
        Counterexample(
            against="A readout with a kink has no recurrence.",
            shows="On a state of one number relu(q k) = relu(q) relu(k) + relu(-q) relu(-k): two numbers carry it.",
            code="""\
import torch
from mixerlens import CoefficientDynamics
from mixerlens.readout import Relu

draw = torch.Generator().manual_seed(0)
query, key = (torch.randn(1, 128, 1, 1, dtype=torch.float64, generator=draw) for _ in range(2))
rank = int(CoefficientDynamics(query, key, readout=Relu()).operator().state_rank(1e-10, cuts="all"))
assert rank == 2
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "ranks": "State rank of the first T tokens, a head, length and tolerance each.",
        "lower_bound": "Whether only some cuts were looked at: the rank is at least this.",
        "caps": "The largest rank that T tokens can show.",
        "verdicts": "Whether the rank stands still as T grows, a head and tolerance each.",
        "finite": "Numbers that an exact recurrence carries, by theory; null where none is finite.",
        "gap": "Largest difference of the parallel and the recurrent form, relative to the largest output.",
    }
    units: ClassVar[dict[str, str]] = {
        "lengths": "tokens",
        "ranks": "numbers a value channel",
        "caps": "numbers a value channel",
        "finite": "numbers a value channel",
        "gap": "relative",
        "gap_tokens": "tokens",
    }


def readout(
    mixer: Any,
    *,
    sequence: int = 0,
    tolerances: Sequence[float] = TOLERANCES,
    longest: int = LONGEST,
    cuts: int | str | None = None,
    seed: int = 0,
) -> ReadoutPrinciple:
    """Principle 1: the state rank as the sequence grows, and the gap of parallel and recurrent forms.

    longest: tokens looked at (the cost is their cube for a readout without finite state). cuts: of each length, the
    middle always among them, or "all"; by default 3, and for a recurrent mixer all where that is cheap, else 16. seed:
    of the random values that the two forms are compared on.

    Raises InputError for what is no mixer or a sequence that is not there.
    """
    d = one_run(mixer, sequence)
    if not d.support.causal or d.time < 2:
        reason = "a single token passes nothing on" if d.support.causal else (
            "a bidirectional mixer has no state between tokens: each row sees tokens that come later"
        )  # fmt: skip
        none = torch.zeros(d.heads, 0, len(tolerances), dtype=torch.long)
        words = tuple(() for _ in range(d.heads))
        return ReadoutPrinciple(
            lengths=(), tolerances=tuple(tolerances), ranks=none, lower_bound=False, caps=(), verdicts=words,
            finite=None, gap=None, gap_tokens=0, meaning=f"No state rank: {reason}.", silent=reason,
        )  # fmt: skip
    lengths = _lengths(min(d.time, longest))
    if cuts is None:
        cheap = d.heads * lengths[-1] ** 2 * d.dim <= EVERY
        cuts = 3 if not d.recurrent else "all" if cheap else 16
    found = [state_rank(d, tolerances, cuts, tokens=time) for time in lengths]
    ranks = torch.stack([f.ranks for f in found], 1).cummax(1).values  # a block of fewer tokens is part of one of more
    lower = any(len(f.cuts) < f.tokens - 1 for f in found)
    rule = _finite(d, found[-1].designed)
    verdicts = tuple(
        tuple(_verdict(ranks[h, :, k].tolist(), found) for k in range(len(tolerances))) for h in range(d.heads)
    )
    gap, gap_tokens = _gap(d, seed)
    return ReadoutPrinciple(
        lengths=tuple(lengths),
        tolerances=tuple(tolerances),
        ranks=ranks,
        lower_bound=lower,
        caps=tuple(f.cap for f in found),
        verdicts=verdicts,
        finite=rule,
        gap=gap,
        gap_tokens=gap_tokens,
        meaning=_meaning(d.time, lengths, tolerances, ranks, lower, rule, gap),
        conditions=_conditions(d),
    )


def _finite(d: CoefficientDynamics, designed: int | None) -> int | None:
    """Numbers a value channel that an exact recurrence of this mixer carries, by theory; None: none of fixed size.

    A window bounds the rank for every readout: the last window - 1 values themselves are a state.
    """
    from mixerlens.design.lifting import finite, lifted_dim

    if d.support.window is not None:
        return d.support.window - 1
    if _grows(d):
        return None
    if d.readout.linear:
        return designed
    return lifted_dim(d.readout, d.dim) if finite(d.readout, d.dim) else None


def _grows(d: CoefficientDynamics) -> bool:
    """The state itself has a number for every token (a filter as long as the sequence) or level of them."""
    return isinstance(d.evolution, Fenwick) or (isinstance(d.evolution, Shift) and d.dim >= d.time)


def _lengths(longest: int) -> list[int]:
    """Halves of the longest, down to 16 tokens or a few."""
    lengths = [longest]
    while lengths[-1] // 2 >= 16:
        lengths.append(lengths[-1] // 2)
    return lengths[::-1]


def _verdict(ranks: list[int], found: list[StateRank]) -> str:
    last = found[-1]
    if len(ranks) > 1 and ranks[-1] == ranks[-2] and 4 * ranks[-1] <= found[-2].tokens:
        return PLATEAU
    if ranks[-1] >= last.cap:
        return CAPPED
    grown = len(ranks) > 1 and found[-2].cap > ranks[-2] < ranks[-1]  # a rank at its cap is none to grow from
    return GROWS if grown else SHORT


def _gap(d: CoefficientDynamics, seed: int) -> tuple[Tensor | None, int]:
    """The parallel form (dense alpha times v) against the recurrence, run one token after the other."""
    from mixerlens.design.lifting import lift

    time = min(d.time, 256)
    d = d.select_tokens(0, time)
    draw = torch.Generator().manual_seed(seed)
    v = torch.randn(1, time, d.heads, 4, dtype=torch.float64, generator=draw).to(d.device)
    try:
        linear = lift(d)
        if not linear.recurrent or linear.dim > 4096:
            return None, 0
    except (UnsupportedError, MemoryBudgetError):
        return None, 0
    parallel = (d.operator().to_dense() @ v.transpose(1, 2).to(d.coefficient_dtype)).transpose(1, 2)
    difference = (parallel - _recurrent(linear, v)).abs()
    largest = parallel.abs().amax((0, 1, 3))
    return difference.amax((0, 1, 3)) / torch.where(largest > 0, largest, 1), time


def _recurrent(d: CoefficientDynamics, v: Tensor) -> Tensor:
    """S_i = A_i S_{i-1} + b_i k_i v_i^T, y_i = phi(q_i^T S_i) / eta_i with linear phi: (1, time, heads, value)."""
    one = torch.ones_like(v[..., :1])
    v = torch.cat([v, one], -1).to(d.dtype)  # the last channel is the row sum
    k, q = keys(d)[None], queries(d)[None]
    state, rows = torch.zeros(1, d.heads, d.dim, v.shape[-1], dtype=d.dtype, device=d.device), []
    for t in range(d.time):
        state = d.evolution.step(state, t) if t else state
        state = state + k[:, :, t, :, None] * v[:, t, :, None, :]
        rows.append(d.readout(q[:, :, t, None, :] @ state))
    y = torch.cat(rows, -2)
    eta = eta_of(d, y[..., -1:]) if d.normalizer.row_sum else normalizer_rows(d)
    return (y[..., :-1] / eta).transpose(1, 2)


def _conditions(d: CoefficientDynamics) -> tuple[Condition, ...]:
    linear = isinstance(d.readout, IdentityReadout | RealPart)
    polynomial = linear or isinstance(d.readout, Polynomial)
    told = repr(d.readout)
    known = polynomial or isinstance(d.readout, NO_POLYNOMIAL)
    window = d.support.window
    return (
        Condition("phi is linear: n numbers", linear, told),
        Condition("phi is a polynomial: finite by lifting", polynomial if known else None, told),
        Condition("n >= 2", d.dim >= 2, f"n = {d.dim}"),
        Condition("n does not grow with the sequence", not _grows(d), f"n = {d.dim} for {d.time} tokens"),
        Condition(
            "there is no window: it makes every phi finite",
            window is None,
            "no window" if window is None else f"window of {window} tokens",
        ),
    )


def at_least(lower: bool, ranks: Tensor, finite: int | None) -> bool:
    """Whether ranks (heads,) may be larger than was seen: not every cut was looked at, and theory allows more."""
    return lower and (finite is None or bool((ranks < finite).any()))


def _meaning(
    time: int,
    lengths: list[int],
    tolerances: Sequence[float],
    ranks: Tensor,
    lower: bool,
    finite: int | None,
    gap: Tensor | None,
) -> str:
    at = ("at least " if at_least(lower, ranks[:, -1], finite) else "") + ", ".join(
        f"{spread_text(ranks[:, -1, k])} at {t:g}" for k, t in enumerate(tolerances)
    )
    size = "no recurrence of fixed size exists" if finite is None else f"theory gives at most {finite}"
    forms = "" if gap is None else f" Parallel and recurrent form differ by {float(gap.max()):.1e}."
    of = f"{lengths[-1]} tokens" if lengths[-1] == time else f"the first {lengths[-1]} of {time} tokens"
    return f"State rank over {of}: {at}; {size}.{forms}"
