"""The view of the dynamical systems framework (arXiv 2405.15731): the normaliser folded into the evolution.

    A_i -> (eta_{i-1} / eta_i) A_i,    b_i -> b_i / eta_i,    eta -> 1

The ratios telescope to eta_j / eta_i and b_j brings 1 / eta_j, so alpha is the same and the mixer is a linear
recurrence without a division. Its eigenvalues are another matter: those of A_i times a ratio of normalisers, they can
exceed 1 where nothing grows. In general S_t -> g_t S_t changes the eigenvalues by g_t / g_{t-1} and no coefficient:
for steps that differ from token to token, eigenvalues belong to the coordinates as much as to the mixer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, MemoryBudgetError, UnsupportedError
from mixerlens.evolution import Carry, Evolution, Factors
from mixerlens.evolution.anchored import decay_matrix
from mixerlens.evolution.base import Diagonal as DiagonalCarry
from mixerlens.measures.eta import NO_GAUGE, EtaRatio, eta_ratio, has_eta_ratio
from mixerlens.measures.parts import dynamics_of, one_sequence
from mixerlens.measures.record import QUANTILES, quantiles
from mixerlens.normalizer import NoNormalizer, PerToken, RowSum
from mixerlens.operator.apply import eta_of
from mixerlens.principles.parts import percent, spread_text
from mixerlens.principles.record import Condition, Counterexample, Principle
from mixerlens.shapes import spread, tile, wide

PROBES = 4
COORDINATES = "none of alpha, but of the coordinates: S_t -> g_t S_t multiplies the eigenvalues by g_t / g_{t-1}"


@dataclass(frozen=True, eq=False)
class Folded(Evolution):
    """A_t = ratio_t A'_t with A' the inner evolution. ratio: (batch, time, heads), real, any leading axes left out.

    Eigenvalues: the inner ones, given as often as the inner kind gives them, times ratio_t.
    """

    inner: Evolution
    ratio: Tensor
    chunk: ClassVar[int] = 32

    def __post_init__(self) -> None:
        self.settle()

    def step(self, state: Tensor, t: int) -> Tensor:
        ratio = wide(tile(self.ratio, t, t + 1)).unsqueeze(-1)
        return (ratio * self.inner.step(state, t)).to(state.dtype)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        inner, a = self.inner.factors(query, key, lo, hi), wide(tile(self.ratio, lo, hi))
        heads = max(inner.intra.shape[1], a.shape[1])
        between, forward, backward = decay_matrix(a, query.dtype)
        intra, emit, inject = (spread(x, heads) for x in (inner.intra, inner.emit, inner.inject))
        return Factors(
            intra=intra * between,
            emit=emit * forward.to(query.dtype).unsqueeze(-1),
            inject=inject * backward.to(query.dtype).unsqueeze(-1),
            carry=_Then(inner.carry, DiagonalCarry(forward[..., -1:])),
        )

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        ratio = wide(self.ratio[:, lo:hi] if self.ratio.shape[1] > 1 else self.ratio).unsqueeze(-1)
        values = self.inner.eigenvalues(lo, hi)
        return spread(values, max(values.shape[2], ratio.shape[2]), 2) * ratio

    def check(self, dim: int) -> None:
        self.inner.check(dim)

    def check_length(self, time: int) -> None:
        self.inner.check_length(time)


@dataclass(frozen=True, eq=False)
class _Then(Carry):
    """One carry after the other."""

    first: Carry
    second: Carry

    def forward(self, state: Tensor) -> Tensor:
        return self.second.forward(self.first.forward(state))

    def backward(self, rows: Tensor) -> Tensor:
        return self.first.backward(self.second.backward(rows))


@dataclass(frozen=True, eq=False, kw_only=True)
class Dsf(Principle):
    """The mixer with its normaliser folded into the evolution, a head at a time.

    kind: "folded" (a finite recurrence without a division, compared here), "lifted" (the same after lifting a
        polynomial readout), "as it is" (nothing to fold), "ratio" (no finite state: the ratios alone).
    ratio: eta_{i-1} / eta_i, (heads, tokens), NaN where a row has no predecessor or is padding.
    beyond: share of the tokens whose ratio exceeds 1 in size, (heads,): folded eigenvalues that exceed those of A_t.
    slowest: largest folded |eigenvalue| of each token, (heads, tokens); with A_t as it is, ``bare``.
    error: max |y - y'| / max |y| between the two forms on random values, None where there is nothing to compare.
    gauge: which freedom leaves alpha as it is and changes the ratios; low, high: their range for an exponential
        readout (see ``measures.eta``), (heads, tokens). logs: the logarithms of all three, also where floats do not
        reach; None for other readouts.
    reason: why no finite recurrence was folded, for kind "ratio"; for the others what could not be taken of it: folded
        eigenvalues (``slowest`` is then NaN) or the comparison (``error`` is then None).
    """

    kind: str
    ratio: Tensor = field(repr=False)
    beyond: Tensor
    slowest: Tensor = field(repr=False)
    bare: Tensor = field(repr=False)
    error: float | None
    gauge: str
    low: Tensor | None = field(default=None, repr=False)
    high: Tensor | None = field(default=None, repr=False)
    logs: EtaRatio | None = field(default=None, repr=False)
    reason: str | None = None
    levels: tuple[float, ...] = QUANTILES

    number: ClassVar[int] = 0  # none of the six
    title: ClassVar[str] = "Folded normaliser"
    headline: ClassVar[str] = "beyond"
    wording: ClassVar[str] = "With eta folded into A_t, attention and state space models have comparable eigenvalues."
    theorem: ClassVar[str] = (
        "For a linear phi (a polynomial after lifting), where eta is neither 0 nor infinite, A_i -> "
        "(eta_{i-1} / eta_i) A_i, b_i -> b_i / eta_i without a division leave alpha as it is. So does S_t -> g_t S_t "
        "with q_t -> q_t / g_t "
        "for every g without a zero, which multiplies the eigenvalues by g_t / g_{t-1}. Alpha "
        "and its state rank are facts about the mixer, eigenvalues of a time-varying A_t also about its coordinates."
    )
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2405.15731",)
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="Eigenvalues above 1 mean that something grows.",
            shows="Folding eta = 1, 4, 1, 4, ... into A_t = I gives eigenvalues of 4 and 1/4, and the same alpha.",
            code="""\
import torch
from mixerlens import CoefficientDynamics
from mixerlens.normalizer import PerToken
from mixerlens.principles.dsf import fold

draw = torch.Generator().manual_seed(0)
query, key = (torch.randn(1, 64, 1, 4, dtype=torch.float64, generator=draw) for _ in range(2))
eta = torch.tensor([1.0, 4.0], dtype=torch.float64).repeat(32).reshape(1, 64, 1)
mixer = CoefficientDynamics(query, key, normalizer=PerToken(eta))
folded = fold(mixer)
sizes = folded.evolution.eigenvalues().abs().unique().tolist()
assert sizes == [0.25, 1.0, 4.0]
assert (folded.operator().to_dense() - mixer.operator().to_dense()).abs().max() < 1e-12
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "ratio_quantiles": "Quantiles over tokens of eta_{i-1} / eta_i, by which folding multiplies the eigenvalues.",
        "gauge_quantiles": "The same for the ends of the range that shifted keys span; no coefficient changes in it.",
        "beyond": "Share of the tokens at which folding enlarges the eigenvalues.",
        "slowest_quantiles": "Quantiles over tokens of the largest |eigenvalue| after folding.",
        "bare_quantiles": "The same of A_t itself.",
        "error": "Largest relative difference of the outputs of the two forms, on random values.",
        "log_ratio_quantiles": "Natural logarithms of ratio_quantiles, null or 0 where floats do not reach.",
        "log_slowest_quantiles": "The same of slowest_quantiles.",
        "log_gauge_quantiles": "The same of gauge_quantiles.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "ratio_quantiles", "gauge_quantiles", "slowest_quantiles", "bare_quantiles", "log_ratio_quantiles",
            "log_slowest_quantiles", "log_gauge_quantiles",
        ),
        "per token",
    )  # fmt: skip

    @property
    def numbers(self) -> dict[str, Any]:
        numbers = {
            "kind": self.kind,
            "reason": self.reason,
            "levels": self.levels,
            "ratio_quantiles": quantiles(self.ratio, self.levels),
            "beyond": self.beyond,
            "slowest_quantiles": quantiles(self.slowest, self.levels),
            "bare_quantiles": quantiles(self.bare, self.levels),
            "error": self.error,
            "gauge": self.gauge,
        }
        if self.low is not None and self.high is not None:
            numbers["gauge_quantiles"] = {
                name: quantiles(x, self.levels) for name, x in (("low", self.low), ("high", self.high))
            }
        if self.logs is not None:
            numbers["log_ratio_quantiles"] = quantiles(self.logs.log_ratio, self.levels)
            numbers["log_slowest_quantiles"] = quantiles(self.logs.log_ratio + self.bare.log(), self.levels)
            if self.low is not None:
                ends = {"low": self.logs.log_low, "high": self.logs.log_high}
                numbers["log_gauge_quantiles"] = {name: quantiles(x, self.levels) for name, x in ends.items()}
        return numbers


def eta(d: CoefficientDynamics) -> Inexact[Tensor, "batch time heads"]:
    """eta_i as the mixer divides by it, in float64; 1 for rows without support.

    Raises UnsupportedError for an exponential readout, whose row sums overflow: ``measures.eta`` has their ratios.
    """
    shape = (d.batch, d.time, d.heads)
    if isinstance(d.normalizer, NoNormalizer):
        return torch.ones(shape, dtype=torch.float64, device=d.device)
    if isinstance(d.normalizer, PerToken):
        return wide(d.normalizer.eta).expand(shape)
    if d.readout.exponential or not isinstance(d.normalizer, RowSum):
        raise UnsupportedError(
            f"eta of readout {d.readout} under {type(d.normalizer).__name__}: take the ratios, measures.spectrum(d).eta"
        )
    total = replace(d.to(torch.float64), normalizer=NoNormalizer()).operator().row_sum()
    return eta_of(d, total.transpose(1, 2).unsqueeze(-1))[..., 0].transpose(1, 2).expand(shape)


def fold(d: CoefficientDynamics) -> CoefficientDynamics:
    """The same coefficients without a normaliser: eta in A_t and b_t. A polynomial readout is lifted first.

    Computed in float64. Raises UnsupportedError for a readout without finite recurrence, or a support that is not
    causal; InputError where eta is 0 or not finite, which no recurrence can divide out.
    """
    if not d.support.causal:
        raise UnsupportedError("a bidirectional mixer has no recurrence over tokens to fold a normaliser into")
    if not d.readout.linear:
        from mixerlens.design.lifting import lift

        d = lift(d)  # refuses what has no finite recurrence
    if isinstance(d.normalizer, NoNormalizer):
        return d
    if d.dtype.is_complex:
        raise UnsupportedError("a complex mixer with a normaliser is not folded: no architecture here has one")
    d = d.to(torch.float64)
    by = eta(d)
    bad = (by == 0) | ~by.isfinite()
    if bool(bad.any()):
        _, token, head = bad.nonzero()[0].tolist()
        raise InputError(
            f"eta is {float(by[bad][0]):.3g} at token {token}, head {head}: a recurrence cannot carry a state over it"
        )
    ratio = torch.cat([torch.ones_like(by[:, :1]), by[:, :-1] / by[:, 1:]], 1)
    scaling = 1 / by if d.scaling is None else d.scaling / by
    return replace(d, evolution=Folded(d.evolution, ratio), scaling=scaling, normalizer=NoNormalizer())


def dsf(mixer: Any, *, sequence: int = 0) -> Dsf:
    """The folded view of every head on one sequence: ratios, eigenvalues, and the comparison of the two forms.

    Raises InputError for something that is no mixer or a sequence that is not there.
    """
    d = one_sequence(dynamics_of(mixer), sequence)
    bare, nothing = _slowest(d.evolution, d), isinstance(d.normalizer, NoNormalizer)
    if has_eta_ratio(d):
        found = eta_ratio(d)
        free = found.gauge != NO_GAUGE
        return _record(
            d, "ratio", found.ratio, (found.log_ratio + bare.log()).exp(), bare, gauge=found.gauge,
            low=found.low if free else None, high=found.high if free else None, logs=found,
            reason="an exponential readout has no finite recurrence to fold into",
        )  # fmt: skip
    if nothing or not d.support.causal:
        still = torch.ones(d.heads, d.time, dtype=torch.float64)
        reason = None if nothing else "a bidirectional mixer has no recurrence over tokens"
        return _record(d, "as it is", still, bare, bare, reason=reason)
    by = eta(d)[0].T
    ratio = torch.cat([torch.full_like(by[:, :1], torch.nan), by[:, :-1] / by[:, 1:]], 1)
    if d.support.segments is not None:
        segments = d.support.segments[0]
        ratio[:, 1:] = torch.where((segments[1:] == segments[:-1]) & (segments[1:] >= 0), ratio[:, 1:], torch.nan)
    try:
        folded = fold(d)
    except (UnsupportedError, InputError, MemoryBudgetError) as why:
        bad = bool(((by == 0) | ~by.isfinite()).any())
        return _record(d, "ratio", ratio, ratio.abs() * bare, bare, reason=str(why), bad=bad)
    kind = "folded" if d.readout.linear else "lifted"
    reasons, error = [], None
    try:
        slowest = _slowest(folded.evolution, d)
    except (UnsupportedError, MemoryBudgetError) as why:
        slowest = torch.full_like(ratio, torch.nan)
        reasons.append(f"folded eigenvalues: {why}")
    try:
        error = _difference(d, folded)
    except (UnsupportedError, MemoryBudgetError) as why:
        reasons.append(f"comparison: {why}")
    return _record(d, kind, ratio, slowest, bare, error=error, reason="; ".join(reasons) or None, bad=False)


def _record(
    d: CoefficientDynamics,
    kind: str,
    ratio: Tensor,
    slowest: Tensor,
    bare: Tensor,
    *,
    error: float | None = None,
    reason: str | None = None,
    gauge: str = COORDINATES,
    low: Tensor | None = None,
    high: Tensor | None = None,
    logs: EtaRatio | None = None,
    bad: bool | None = None,
) -> Dsf:
    """bad: whether eta was seen to be 0 or infinite somewhere; None where it was not looked at."""
    known = ~ratio.isnan()
    beyond = ((ratio.abs() > 1 + 1e-12) & known).sum(-1) / known.sum(-1).clamp(min=1)
    if has_eta_ratio(d):
        seen = "a sum of exponentials"
    else:
        seen = "seen at every token" if bad is False else reason or "eta is 1"
    finite, plain = d.readout.finite_state and d.support.causal, isinstance(d.normalizer, NoNormalizer)
    middle = quantiles(ratio, (0.5,))[..., 0]
    if kind == "as it is":
        meaning = f"Nothing to fold: {reason or 'eta is 1'}."
    elif bool(middle.isnan().all()):
        meaning = "No token has one before it in its sequence, so there is no ratio to fold."
    else:
        meaning = (
            f"Folding multiplies the eigenvalues by {_middle(ratio, logs and logs.log_ratio)} at the middle token and "
            "enlarges them at "
            f"{percent(beyond)} of the tokens."
        )
        if low is not None and high is not None:
            ends = (_middle(low, logs and logs.log_low), _middle(high, logs and logs.log_high))
            meaning += " Shifted keys, which change no coefficient, move the middle down to {} and up to {}.".format(
                *ends
            )
        if error is not None:
            meaning += f" Both forms agree to {error:.1e}."
    return Dsf(
        kind=kind, ratio=ratio, beyond=beyond, slowest=slowest, bare=bare, error=error, gauge=gauge, low=low, high=high,
        logs=logs, reason=reason, meaning=meaning, silent=f"{reason or 'eta is 1'}" if kind == "as it is" else "",
        conditions=(
            Condition("there is a normaliser", not plain, type(d.normalizer).__name__),
            Condition("phi is linear or a polynomial: the folded recurrence is finite", finite, repr(d.readout)),
            Condition(
                "eta is neither 0 nor infinite",
                True if plain or has_eta_ratio(d) else None if bad is None else not bad,
                seen,
            ),
        ),
    )  # fmt: skip


def _middle(values: Tensor, logs: Tensor | None) -> str:
    """The middle of each head's values in words, as powers of e where floats do not reach."""
    middle = quantiles(values, (0.5,))[..., 0]
    if logs is None or not bool((middle.isinf() | (middle == 0)).any()):
        return spread_text(middle)
    return f"e^({spread_text(quantiles(logs, (0.5,))[..., 0])})"


def _slowest(evolution: Evolution, d: CoefficientDynamics) -> Tensor:
    """Largest |eigenvalue| of each token: (heads, tokens)."""
    return spread(evolution.eigenvalues()[0].abs().amax(-1), d.heads, 1).T.expand(d.heads, d.time)


def _difference(d: CoefficientDynamics, folded: CoefficientDynamics) -> float:
    """max |y - y'| / max |y| on random values."""
    values = torch.randn(1, d.time, 1, PROBES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, again = (x.operator() @ values for x in (d.to(torch.float64), folded))
    return float((y - again).abs().amax() / y.abs().amax().clamp(min=torch.finfo(torch.float64).tiny))
