"""Principle 6, normalisation: whether the mass of a row, and the products of the A_t, stay bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta, Diagonal, Identity, Rotation, Scalar, Shift
from mixerlens.normalizer import NoNormalizer, PerToken, RowSum, RowSumFloor
from mixerlens.principles.parts import MATRICES, matrices, one_run, spaced, spread_text
from mixerlens.principles.record import Condition, Counterexample, Principle
from mixerlens.principles.zeros import real_roots
from mixerlens.readout import Polynomial, Relu, Sigmoid
from mixerlens.shapes import spread

WORK = 1 << 34  # multiplications that a product may cost
BETWEEN = 8  # tokens from one QR to the next
SLAB = 256  # tokens whose eigenvalues are looked at together


@dataclass(frozen=True, eq=False, kw_only=True)
class NormalizationPrinciple(Principle):
    """lengths: T. mass: G(T) = max over i <= T of sum_j |alpha_ij|, (heads, lengths). row_mass: of every row, (heads,
    tokens). power: slope of log G on log T over the longer half of the lengths, (heads,), NaN where G is 0.

    exponent: ln |A_T ... A_1|_2 / (T - 1), the rate at which a state present at the first token can have grown over the
        sequence, (heads,); -infinity where gates have erased it. An impulse that enters later may have grown faster.
        between: the same over the longest run of tokens before or after such an erasure, (heads,).
        norm: max_t |A_t|_2, and radius: max_t of the spectral radius, over ``norm_tokens`` of the T - 1 tokens that
        have one, (heads,). All of these are NaN where no A_t acts on any state.
    """

    lengths: tuple[int, ...]
    mass: Tensor
    row_mass: Tensor = field(repr=False)
    power: Tensor
    exponent: Tensor
    between: Tensor
    exponent_tokens: int
    norm: Tensor
    radius: Tensor
    norm_tokens: int

    number: ClassVar[int] = 6
    title: ClassVar[str] = "Normalisation"
    headline: ClassVar[str] = "mass"
    wording: ClassVar[str] = "The normaliser eta_i stabilises the mixer."
    theorem: ClassVar[str] = (
        "|y_i| <= G(T) max_j |v_j| with G(T) = max_i sum_j |alpha_ij|, and no smaller bound holds for all values. If "
        "phi >= 0 and eta_i = sum_j phi(z_ij), every row has mass at most 1. If phi takes both signs a row sum may "
        "nearly vanish and bounds nothing, nor does max(|row sum|, 1). Without eta, products A_i ... A_{j+1} that fade "
        "like rho^(i - j), rho < 1, bound G for bounded q, k, b and a linear phi, or any with |phi(z)| <= c |z|; exp "
        "and sigmoid give what has faded phi(0) each, and G grows like T. |A_t| <= 1 at every token keeps the products "
        "from growing, a spectral radius of at most 1 does not."
    )
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2510.09389", "arXiv 2405.04517")
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="Dividing by max(|row sum|, 1) keeps the output bounded.",
            shows="With keys +k, -k, +k, ... the row sum of the mLSTM normaliser is 0 or 1, and G(T) = T.",
            code="""\
import torch
from mixerlens import CoefficientDynamics
from mixerlens.normalizer import RowSumFloor

one = torch.ones(1, 64, 1, 1, dtype=torch.float64)
key = one * (-1.0) ** torch.arange(64)[None, :, None, None]
mixer = CoefficientDynamics(one, key, normalizer=RowSumFloor(torch.ones(1, 1, 1)))
mass = mixer.operator().row_mass()[0, :, 0]
assert torch.equal(mass, torch.arange(1.0, 65.0, dtype=torch.float64))
""",
        ),
        Counterexample(
            against="A mixer is stable if no eigenvalue of any A_t exceeds 1.",
            shows="Two matrices without any eigenvalue but 0 in turn multiply the state by 2 at every token.",
            code="""\
import torch
from mixerlens import CoefficientDynamics
from mixerlens.evolution import Dense

up = torch.tensor([[0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
evolution = Dense(torch.stack([up if t % 2 else up.T for t in range(41)])[None, :, None])
assert float(evolution.eigenvalues().abs().max()) == 0
start = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(1, 41, 1, 2)
growth = CoefficientDynamics(start, start, evolution).impulse(0)[0, 40, 0].norm()
assert float(growth) == 2.0**40
""",
        ),
        Counterexample(
            against="Dividing by the row sum bounds linear attention.",
            shows="Where queries and keys have both signs the row sum can pass by zero: here a row has mass 1999.",
            code="""\
import torch
from mixerlens import CoefficientDynamics
from mixerlens.normalizer import RowSum

query = torch.ones(1, 2, 1, 1, dtype=torch.float64)
key = torch.tensor([1.0, -0.999], dtype=torch.float64).reshape(1, 2, 1, 1)
mass = CoefficientDynamics(query, key, normalizer=RowSum()).operator().row_mass()[0, :, 0]
assert mass[0] == 1 and abs(mass[1] - 1999) < 1e-6
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "mass": "G(T): largest sum of absolute coefficients of a row among the first T.",
        "power": "Power of T with which G grows over the longer half of the lengths; 0: bounded so far.",
        "exponent": "Largest rate, a token, at which a state present at the first token can have grown.",
        "between": "The same over the longest run of tokens between two that erase all before them.",
        "norm": "Largest factor by which one A_t looked at can lengthen a state.",
        "radius": "Largest absolute eigenvalue of an A_t looked at.",
    }
    units: ClassVar[dict[str, str]] = {
        "lengths": "tokens",
        "mass": "output a unit of value",
        "exponent": "1 / token",
        "between": "1 / token",
        "norm": "per token",
        "radius": "per token",
        "exponent_tokens": "tokens",
        "norm_tokens": "tokens",
    }

    def to_json(self) -> dict[str, Any]:
        """Without the mass of every row."""
        written = super().to_json()
        del written["row_mass"]
        return written


def normalization(
    mixer: Any, *, sequence: int = 0, longest: int = 4096, most_matrices: int = 256
) -> NormalizationPrinciple:
    """Principle 6: G(T) from one streamed pass over all rows, the top Lyapunov exponent and the norms of the A_t.

    longest: tokens over which a product without closed form is followed, fewer where a state is large.
    most_matrices: tokens whose dense A_t is looked at, where its norm has no closed form.

    Raises InputError for what is no mixer or a sequence that is not there.
    """
    d = one_run(mixer, sequence)
    row_mass = d.operator().row_mass()[0].T
    lengths = _lengths(d.time) if d.support.causal else (d.time,)
    highest = row_mass.cummax(-1).values
    mass = highest[:, [t - 1 for t in lengths]]
    longest = min(longest, max(BETWEEN, WORK // (d.heads * d.dim**3)))
    followed = d if d.time <= longest or _summed(d) else d.select_tokens(0, longest)
    norm, radius, norm_tokens = _norms(d, most_matrices)
    exponent, between = _followed(followed)
    if not norm_tokens:
        norm = radius = exponent = between = torch.full((d.heads,), torch.nan, dtype=torch.float64)
    return NormalizationPrinciple(
        lengths=lengths,
        mass=mass,
        row_mass=row_mass,
        power=_power(lengths, mass),
        exponent=exponent,
        between=between,
        exponent_tokens=followed.time,
        norm=norm,
        radius=radius,
        norm_tokens=norm_tokens,
        meaning=_meaning(d, mass, exponent, between, norm, norm_tokens),
        conditions=_conditions(d, norm, radius, norm_tokens),
    )


def lyapunov(d: CoefficientDynamics) -> Tensor:
    """ln |A_{T-1} ... A_1|_2 / (T - 1) for the T tokens of one sequence: (heads,) float64.

    0 for a single token, -infinity where the product is zero.
    """
    return _followed(d)[0]


def _followed(d: CoefficientDynamics) -> tuple[Tensor, Tensor]:
    """The exponent, and that of the longest run that no erasure cuts: each (heads,) float64.

    A sum of logarithms where the A_t are diagonal. Else the product is followed as Q times an upper triangle: a QR of
    A_t Q every few tokens keeps the columns apart, and both are kept near 1, their scale apart in a logarithm, so
    that neither overflows nor vanishes.
    """
    steps = d.time - 1
    zero = torch.zeros(d.heads, dtype=torch.float64)
    if steps < 1 or isinstance(d.evolution, Identity) or not d.support.causal:
        return zero, zero
    if isinstance(d.evolution, Shift):  # an isometry of what has not left the register yet
        block = d.evolution.block
        gone = torch.full_like(zero, 0.0 if steps * block < d.dim else -torch.inf)
        return gone, zero if d.dim > block else torch.full_like(zero, torch.nan)
    if isinstance(d.evolution, Scalar | Diagonal | Rotation):
        exponent = _sum_of_logs(d) / steps
        each = [_longest_open(d, h) if x == -math.inf else x for h, x in enumerate(exponent.tolist())]
        return exponent, torch.tensor(each, dtype=torch.float64)
    unit = torch.eye(d.dim, dtype=_wide(d.dtype)).expand(1, d.heads, d.dim, d.dim)
    basis, triangle, scale = unit, unit[0], zero
    begun = torch.zeros(d.heads, dtype=torch.float64)  # tokens before the run that is followed
    runs = zero
    between = torch.full_like(zero, torch.nan)
    erased = torch.zeros(d.heads, dtype=torch.bool)

    def ended(t: int, heads: Tensor, rate: Tensor) -> None:
        nonlocal runs, between
        longer = heads & (t - begun > runs)
        between = torch.where(longer, rate / (t - begun).clamp(min=1), between)
        runs = torch.where(longer, t - begun, runs)

    for t in range(1, d.time):
        moved = d.evolution.step(basis, t)
        closed = ((moved[0] @ triangle) == 0).all(-1).all(-1)
        if bool(closed.any()):  # what came before is measured, and a new run starts after this token
            ended(t - 1, closed, torch.linalg.matrix_norm(basis[0] @ triangle, 2).log() + scale)
            erased, begun = erased | closed, torch.where(closed, t, begun)
            moved = torch.where(closed[:, None, None], unit, moved)
            triangle = torch.where(closed[:, None, None], unit[0], triangle)
            scale = torch.where(closed, 0.0, scale)
        size = moved.abs().amax((-2, -1))[0]
        basis, scale = moved / size[:, None, None], scale + size.log()
        if t % BETWEEN and t < steps:
            continue
        basis, step = torch.linalg.qr(basis)
        triangle = step[0] @ triangle
        size = triangle.abs().amax((-2, -1))
        scale = scale + size.log()
        triangle = triangle / size[:, None, None]
    last = torch.linalg.matrix_norm(triangle, 2).log() + scale
    ended(steps, torch.ones_like(erased), last)
    return torch.where(erased, -torch.inf, last / steps), between


def _logs(d: CoefficientDynamics, lo: int, hi: int) -> Tensor:
    """log |a_t| of diagonal A_t: (time | 1, heads | 1, modes)."""
    return d.evolution.eigenvalues(lo, hi).abs().log()[0]


def _sum_of_logs(d: CoefficientDynamics) -> Tensor:
    """max over dimensions of sum_t log |a_t| over t = 1 .. T - 1."""
    total = torch.zeros(d.heads, 1, dtype=torch.float64)
    for lo in range(1, d.time, SLAB):
        hi = min(lo + SLAB, d.time)
        logs = _logs(d, lo, hi)
        summed = logs.sum(0) if logs.shape[0] > 1 or hi - lo == 1 else logs[0] * (hi - lo)
        total = total + spread(summed, d.heads, 0)
    return total.amax(-1)


def _longest_open(d: CoefficientDynamics, head: int) -> float:
    """The exponent of one head over the longest run of tokens whose product is not 0; NaN where there is none."""
    logs = spread(_logs(d, 1, d.time), d.heads, 1)[:, head]
    total, begun, best, rate = torch.zeros(logs.shape[-1]).double(), 0, 0, math.nan
    for t, step in enumerate(logs.expand(d.time - 1, -1)):
        moved = total + step
        if bool((moved == -torch.inf).all()):
            moved, begun = torch.zeros_like(moved), t + 1
        elif t + 1 - begun > best:
            best, rate = t + 1 - begun, float(moved.amax()) / (t + 1 - begun)
        total = moved
    return rate


def _norms(d: CoefficientDynamics, most: int) -> tuple[Tensor, Tensor, int]:
    """max_t |A_t|_2 and max_t of the spectral radius, each (heads,), and over how many tokens t >= 1."""
    if d.time < 2 or isinstance(d.evolution, Identity) or not d.support.causal:
        one = torch.ones(d.heads, dtype=torch.float64)
        return one, one, max(d.time - 1, 0) if d.support.causal else 0
    if isinstance(d.evolution, Shift):
        norm = torch.full((d.heads,), float(d.dim > d.evolution.block), dtype=torch.float64)
        return norm, torch.zeros_like(norm), d.time - 1
    if _normal(d):
        largest = torch.zeros(d.heads, dtype=torch.float64)
        for lo in range(1, d.time, SLAB):
            values = d.evolution.eigenvalues(lo, min(lo + SLAB, d.time))[0].abs().amax((0, -1))
            largest = torch.maximum(largest, spread(values, d.heads, 0))
        return largest, largest, d.time - 1  # A_t is normal: its norm is its spectral radius
    most = max(1, min(most, MATRICES // (d.heads * d.dim**2)))
    tokens = [1] if d.evolution.time_invariant and not d.evolution.begins else spaced(1, d.time, most)
    a = matrices(d, tokens)
    norm = torch.linalg.matrix_norm(a, 2).amax(-1)
    return norm, torch.linalg.eigvals(a).abs().amax((-2, -1)), len(tokens)


def _summed(d: CoefficientDynamics) -> bool:
    """The norm of the product has a closed form, or is a sum of logarithms."""
    return isinstance(d.evolution, Identity | Scalar | Diagonal | Rotation | Shift)


def _normal(d: CoefficientDynamics) -> bool:
    """Every A_t is normal, and its eigenvalues are at hand in closed form."""
    symmetric = isinstance(d.evolution, Delta) and not d.evolution.is_complex
    return symmetric or isinstance(d.evolution, Identity | Scalar | Diagonal | Rotation)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float64)


def _lengths(time: int) -> tuple[int, ...]:
    powers = [1 << k for k in range(time.bit_length()) if 1 << k < time]
    return (*powers, time)


def _power(lengths: tuple[int, ...], mass: Tensor) -> Tensor:
    """Least squares of log G on log T over the longer half of the lengths."""
    half = len(lengths) // 2 if len(lengths) > 2 else 0
    x = torch.tensor([math.log(t) for t in lengths[half:]], dtype=torch.float64)
    if len(x) < 2:
        return torch.full((len(mass),), torch.nan, dtype=torch.float64)
    y = torch.where(mass[:, half:] > 0, mass[:, half:], torch.nan).log()
    x = x - x.mean()
    return (y * x).sum(-1) / x.square().sum()


def _positive(d: CoefficientDynamics) -> bool | None:
    """Whether phi >= 0 on every real score; None for a readout that is not known here."""
    r = d.readout
    if r.exponential:
        return None if d.dtype.is_complex else True
    if isinstance(r, Relu | Sigmoid):
        return True
    if r.linear:
        return False
    if isinstance(r, Polynomial):
        return None if d.dtype.is_complex else _never_negative(r.coefficients)
    return None


def _never_negative(coefficients: tuple[float, ...]) -> bool | None:
    """Exactly, but None for a degree of 4 or more that touches 0, where it may cross or not."""
    c = [Fraction(x) for x in coefficients]
    while c and c[-1] == 0:
        c.pop()
    if not c:
        return True
    if len(c) % 2 == 0 or c[-1] < 0:
        return False
    if not real_roots(c):
        return True
    return c[1] ** 2 == 4 * c[0] * c[2] if len(c) == 3 else None


def _conditions(d: CoefficientDynamics, norm: Tensor, radius: Tensor, looked: int) -> tuple[Condition, ...]:
    n = d.normalizer
    kind = type(n).__name__
    plain_sum = isinstance(n, RowSum) and not isinstance(n, RowSumFloor)
    names = {NoNormalizer: "eta = 1", PerToken: "eta_i is given token by token", RowSumFloor: "eta = max(|sum|, floor)"}
    told = next((text for known, text in names.items() if isinstance(n, known)), f"{kind}: the sum of the row")
    bounds = (
        Condition("phi >= 0 for every real score", _positive(d), repr(d.readout)),
        Condition("eta_i is the sum of the row", plain_sum, told),
    )
    if not looked:
        return bounds
    seen = f" at {looked} of {d.time - 1} tokens"
    return (
        *bounds,
        Condition(
            "|A_t| <= 1 at every token looked at", bool((norm <= 1 + 1e-12).all()), f"max {spread_text(norm)}{seen}"
        ),
        Condition(
            "the spectral radius of A_t is at most 1 (which is not enough)",
            bool((radius <= 1 + 1e-12).all()),
            f"max {spread_text(radius)}{seen}",
        ),
    )


def _meaning(d: CoefficientDynamics, mass: Tensor, exponent: Tensor, between: Tensor, norm: Tensor, looked: int) -> str:
    told = f"The outputs of {d.time} tokens are at most G = {spread_text(mass[:, -1])} times the largest value; "
    if not looked:
        return f"{told}no A_t acts on any state, so none grows."
    erased = exponent.isinf()
    fate = "is erased"
    if not bool(erased.all()):
        where = " in the heads that do not erase it" if bool(erased.any()) else ""
        fate = f"grows at a rate of at most {spread_text(exponent[~erased])} a token{where}"
    if bool(erased.any()) and not bool(between.isnan().all()):
        fate += f"; over the longest run that no gate cuts one grows at {spread_text(between)} a token"
    rates = "" if fate == "is erased" else " (natural logarithm, below 0 it fades)"
    few = "" if looked == d.time - 1 else f" looked at (of {d.time - 1})"
    return (
        f"{told}a state present at the first token {fate}{rates}, and any by a factor of at most {spread_text(norm)} "
        f"at one of the {looked} tokens{few}."
    )
