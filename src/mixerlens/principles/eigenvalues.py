"""Where the eigenvalues of a mixer lie: shares near 1 and near 0, negative, complex; a head at a time.

The study of arXiv 2510.09379 compares trained models by such histograms, softmax attention by the ratios
eta_{i-1} / eta_i that the dynamical systems framework folds into A_t. Two things make that comparison careful here.
Row i sums the keys j <= i alone: scores of later tokens that a mask has set to zero, and that are exponentiated
afterwards, add one each to eta and tie every ratio to the length of the text. And the ratio is a convention: one
constant vector added to all keys leaves alpha as it is and moves every ratio, so each share of a softmax head is given
with the scores as computed, with the keys centred, and at the two extremes of origins on single keys
(``measures.eta``). These are four points: over all shifts a share takes other values too, below and above theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Delta, Evolution, MicroSteps, Momentum, ReadBeforeWrite, Trapezoid
from mixerlens.measures.eta import NO_GAUGE, eta_ratio, has_eta_ratio
from mixerlens.measures.parts import dynamics_of, head_groups, one_sequence
from mixerlens.measures.record import QUANTILES, quantiles
from mixerlens.measures.spectrum import AS_IS, BIDIRECTIONAL, FOLDED
from mixerlens.principles.dsf import Folded
from mixerlens.principles.parts import percent
from mixerlens.principles.record import Condition, Counterexample, Principle
from mixerlens.principles.retention import COMMUTING

NEAR = 0.05
KINDS = ("near_one", "near_zero", "growing", "negative", "complex")
FLAT = 1e-9  # |Im| below this part of |eigenvalue| is rounding
ENDS = ("low", "computed", "centred", "high")


@dataclass(frozen=True, eq=False, kw_only=True)
class Eigenvalues(Principle):
    """Shares of the eigenvalues of A_1 ... A_{T-1} (A_0 acts on no impulse), in [0, 1], (heads,) each.

    near_one: ||lambda| - 1| <= near. near_zero: |lambda| <= near. growing: |lambda| > 1 beyond rounding.
    negative: real and below 0. complex: not real. radius_quantiles: of |lambda|, (heads, levels).
    phase_quantiles: of |arg lambda| of the complex ones in radians a token, (heads, levels), NaN where there are none.
    counted: "state dimensions", or "distinct eigenvalues" where a kind does not say how often each is repeated.
    gauge: for an exponential readout divided by its row sum, the shares near 1, near 0 and growing at each of ``ENDS``
        (four choices of the origin of the keys, no bounds over all of them), (heads, ends); None elsewhere.
    """

    near: float
    near_one: Tensor
    near_zero: Tensor
    growing: Tensor
    negative: Tensor
    complex: Tensor
    radius_quantiles: Tensor
    phase_quantiles: Tensor
    counted: str
    convention: str
    gauge: dict[str, Tensor] | None = field(default=None, repr=False)
    levels: tuple[float, ...] = QUANTILES

    number: ClassVar[int] = 0  # none of the six
    title: ClassVar[str] = "Eigenvalues"
    headline: ClassVar[str] = "near_one"
    wording: ClassVar[str] = "The eigenvalues of a trained mixer show how it remembers, attention and recurrence alike."
    theorem: ClassVar[str] = (
        "For an A_t that is the same at every token, or commutes with the others, the eigenvalues say how fast each "
        "direction fades and turns. For softmax they are ratios of eta, and adding q_i.c to every score of row i, one "
        "constant vector c on all keys, multiplies them by exp((q_{i-1} - q_i).c) and leaves alpha as it is: over all "
        "c each ratio takes every positive value unless two queries are equal."
    )
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2510.09379", "arXiv 2405.15731")
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="A softmax head has eigenvalues of its own.",
            shows="One constant added to all keys moves the ratio from 0.33 to 0.034, and no coefficient.",
            code="""\
import torch
from mixerlens import families, measures

query, key = (torch.tensor(x, dtype=torch.float64).reshape(1, 2, 1, 1) for x in ([0, 1], [0, 0.693147]))
ratios, alphas = [], []
for shift in (0.0, 2.28):
    mixer = families.softmax_attention(query, key + shift, scale=1.0)
    ratios.append(round(float(measures.spectrum(mixer).ratio[0, 1]), 3))
    alphas.append(mixer.operator().to_dense())
assert ratios == [0.333, 0.034]
assert torch.allclose(*alphas, rtol=1e-12, atol=0)
""",
        ),
        Counterexample(
            against="Masked scores may be set to zero before they are exponentiated.",
            shows="The ratio at token 1 is 0.12; it becomes 0.24 in a text of two tokens, 0.91 in one of 64.",
            code="""\
import torch

def ratio_at_one(time, fill):
    query, key = torch.zeros(time), torch.zeros(time)
    query[1], key[1] = 1.0, 2.0
    scores = torch.outer(query, key)
    seen = torch.ones(time, time).tril().bool()
    eta = torch.where(seen, scores, fill).exp().sum(-1)
    return round(float(eta[0] / eta[1]), 2)

assert [ratio_at_one(time, 0.0) for time in (2, 64)] == [0.24, 0.91]
assert [ratio_at_one(time, -torch.inf) for time in (2, 64)] == [0.12, 0.12]
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "near": "How near counts as near.",
        "near_one": "Share of the eigenvalues of size 1: they keep.",
        "near_zero": "Share of the eigenvalues of size 0: they forget at once.",
        "growing": "Share of the eigenvalues larger than 1.",
        "negative": "Share of the eigenvalues that flip a sign at every token.",
        "complex": "Share of the eigenvalues that turn.",
        "radius_quantiles": "Quantiles of |eigenvalue|; null beyond the range of floats, whose logarithms are in the "
        "folded normaliser's record.",
        "phase_quantiles": "Quantiles of |phase| of those that turn.",
        "gauge": "For softmax the same shares with the origin of the keys on one of them (low, high: the extreme ratio "
        "of each token), as computed and centred; no coefficient changes, and other origins give other shares.",
    }
    units: ClassVar[dict[str, str]] = {
        **dict.fromkeys(KINDS, "share of eigenvalues"),
        "radius_quantiles": "per token",
        "phase_quantiles": "radians a token",
        "gauge": "share of eigenvalues",
    }

    @property
    def numbers(self) -> dict[str, Any]:
        names = ("near", *KINDS, "counted", "convention", "levels", "radius_quantiles", "phase_quantiles")
        numbers = {name: getattr(self, name) for name in names}
        return numbers if self.gauge is None else numbers | {"gauge": self.gauge, "ends": ENDS}


def eigenvalues(
    mixer: Any, *, near: float = NEAR, sequence: int = 0, heads: Sequence[int] | None = None
) -> Eigenvalues:
    """Shares over all tokens of one sequence, in groups of heads: nothing is sampled. heads: only these.

    Raises InputError for something that is no mixer, a sequence that is not there, or near outside (0, 1/2).
    """
    if not 0 < near < 0.5:
        raise InputError(f"near is {near}: what counts as near 1 and near 0 must lie between 0 and 1/2")
    d = one_sequence(dynamics_of(mixer), sequence)
    d = d if heads is None else d.select_heads(heads)
    eta = eta_ratio(d) if has_eta_ratio(d) else None
    ends = None if eta is None else torch.stack([eta.log_low, eta.log_ratio, eta.log_centred, eta.log_high])
    groups = head_groups(d.heads, 4 * d.time * d.dim)
    found = [_of_heads(d.select_heads(group), near, None if ends is None else ends[:, group]) for group in groups]
    shares, radius, phase, gauge = (torch.cat(parts) for parts in zip(*(part[:4] for part in found), strict=True))
    named: dict[str, Any] = dict(zip(KINDS, shares.unbind(-1), strict=True))
    return Eigenvalues(
        near=near,
        **named,
        radius_quantiles=radius,
        phase_quantiles=phase,
        counted="state dimensions" if found[0][4] else "distinct eigenvalues",
        convention=BIDIRECTIONAL if not d.support.causal else AS_IS if eta is None else FOLDED,
        gauge=None if eta is None else dict(zip(KINDS, gauge.unbind(1), strict=False)),
        meaning=_meaning(named, near, gauge),
        silent="" if d.support.causal else "a bidirectional mixer has no recurrence over tokens",
        conditions=(
            Condition("the A_t commute", isinstance(d.evolution, COMMUTING), f"{type(d.evolution).__name__} evolution"),
            Condition(
                "no shift of the keys moves them",
                eta is None or eta.gauge == NO_GAUGE,
                "eigenvalues of A_t" if eta is None else f"ratios of eta; gauge: {eta.gauge}",
            ),
        ),
    )


def _meaning(named: dict[str, Tensor], near: float, gauge: Tensor) -> str:
    if all(bool(x.isnan().all()) for x in named.values()):
        return "No token has one before it in its sequence, so there are no eigenvalues."
    told = ", ".join(f"{name.replace('_', ' ')} {percent(x)}" for name, x in named.items())
    told = told.replace("near one", f"near one (within {near:g})")
    if not gauge.numel():
        return f"Shares of the eigenvalues: {told}."
    computed, centred = (percent(gauge[:, 0, ENDS.index(end)]) for end in ("computed", "centred"))
    return (
        f"Shares of the eigenvalues, scores as computed: {told}. Near one is {computed} as computed and {centred} "
        "with keys centred; adding a constant to all keys changes no coefficient, and these are no bounds over all."
    )


def multiplicities(evolution: Evolution, dim: int) -> list[int] | None:
    """How many of the ``dim`` state dimensions each of the given eigenvalues stands for; None where a kind varies.

    A stands for A_t with t >= 1 and parameters in general position.
    """
    if isinstance(evolution, Folded):
        return multiplicities(evolution.inner, dim)
    if isinstance(evolution, ReadBeforeWrite | Trapezoid):
        inner = multiplicities(evolution.inner, dim // 2)
        return None if inner is None else [*inner, dim // 2]
    modes = evolution.eigenvalues(0, 1).shape[-1]
    if modes == dim:
        return [1] * dim
    if modes == 1:
        return [dim]
    if isinstance(evolution, Delta | MicroSteps):
        return [1] * (modes - 1) + [dim - modes + 1]
    if isinstance(evolution, Momentum):
        return [1, 1, dim // 2 - 1, dim // 2 - 1]
    return None


def _of_heads(d: CoefficientDynamics, near: float, ends: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, bool]:
    """Shares (heads, kinds), quantiles of radius and of phase (heads, levels), the first three shares at the ends
    (heads, kinds, ends), whether dimensions were counted. ends: logarithms of the ratios at ``ENDS``, (ends, heads,
    tokens): of floats the ratios may be too large or too small."""
    bare = d.evolution.eigenvalues()[0].transpose(0, 1).expand(d.heads, -1, -1)  # (heads, tokens | 1, modes)
    counts = multiplicities(d.evolution, d.dim)
    repeats = torch.tensor([1] * bare.shape[-1] if counts is None else counts)
    alive = torch.ones(d.time, dtype=torch.bool)
    if d.support.segments is not None:
        alive = (d.support.segments[0] >= 0).expand(d.time).clone()
    alive[0] &= d.time == 1

    def known(values: Tensor) -> Tensor:
        return torch.where(alive[:, None], values, torch.nan) if values.shape[1] > 1 else values

    def folded(log_ratio: Tensor) -> Tensor:
        return known((log_ratio[..., None] + bare.abs().log()).exp())

    size = known(bare.abs()) if ends is None else folded(ends[ENDS.index("computed")])
    turns = bare.imag.abs() > FLAT * bare.abs()  # a ratio is positive and turns nothing
    marks = [*_marks(size, near), ~turns & (bare.real < 0), turns]
    shares = torch.stack([_share(mark, size, repeats) for mark in marks], -1)
    over = [] if ends is None else [folded(end) for end in ends]
    gauge = [torch.stack([_share(mark, x, repeats) for mark in _marks(x, near)], -1) for x in over]
    phase = torch.where(turns & ~size.isnan(), bare.angle().abs(), torch.nan)
    return (
        shares,
        quantiles(size.repeat_interleave(repeats, -1).flatten(-2)),
        quantiles(phase.repeat_interleave(repeats, -1).flatten(-2)),
        torch.stack(gauge, -1) if gauge else torch.zeros(d.heads, 0),
        counts is not None,
    )


def _marks(size: Tensor, near: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which sizes are near 1, near 0 and growing; NaN is none of them."""
    return (size - 1).abs() <= near, size <= near, size > 1 + 1e-12


def _share(mark: Tensor, size: Tensor, repeats: Tensor) -> Tensor:
    """The marked part of the sizes that are known, (heads, tokens, modes) each counted ``repeats`` times: (heads,)."""
    each = (~size.isnan() * repeats).to(torch.float64)
    return (mark * each).sum((-1, -2)) / each.sum((-1, -2))
