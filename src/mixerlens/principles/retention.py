"""Information retention: how d y_i / d v_j decays with distance, and how gradients pass through the mixer.

With queries, keys and gates held fixed d y_i / d v_j = alpha_ij I exactly, so retention is read from alpha and nothing
is differentiated. A gradient dL/dy arrives at the values as alpha^H dL/dy: for white gradients (independent entries of
unit size) its root mean square at token j is the norm of column j, and the largest gain over all gradients is the
spectral norm of alpha. What reaches a token through queries, keys and gates is not in these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Diagonal, Identity, Rotation, Scalar
from mixerlens.measures.horizon import curve_lags
from mixerlens.measures.parts import dynamics_of, head_groups, one_sequence
from mixerlens.measures.record import quantiles
from mixerlens.operator.tiles import RowTiles
from mixerlens.principles.normalization import _normal
from mixerlens.principles.parts import percent, spread_text
from mixerlens.principles.record import Condition, Counterexample, Principle

LAGS = 48
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
STEPS = 16
ROUNDING = 1e-13
COMMUTING = (Identity, Scalar, Diagonal, Rotation)


@dataclass(frozen=True, eq=False, kw_only=True)
class Retention(Principle):
    """How much of v_j is in y_i by the lag i - j (|i - j| where the mixer reads both ways), a head at a time.

    lags: which were looked at, evenly spaced in log(1 + lag). by_lag: quantiles at ``levels`` over the rows that have
        such a pair of |alpha_ij|, (heads, lags, levels), NaN where no row has one. rms: their root mean square.
    rate, power: least squares on log rms over the lags ``fitted`` (first, last), as exp(-rate lag) and as
        (1 + lag)^(-power); rate_fit, power_fit: the share of the variance of log rms that each explains. (heads,), NaN
        where fewer than three lags are not zero. Fits describe; nothing is certified by them.
    row_norm, column_norm: 2-norms of the rows and columns of alpha, (heads, tokens): the size of y_i for white values
        and the size of dL/dv_j for white dL/dy.
    norm_low, norm_high: certified bounds of the largest singular value of alpha, up to rounding, (heads,):
        |alpha x| for a unit vector x that Lanczos steps found, and the smaller of sqrt(largest row mass times largest
        column mass) (``schur``) and the Frobenius norm. residual: |alpha^H alpha x - norm_low^2 x| / norm_low^2: some
        singular value lies that near, relative, in its square.
    """

    lags: tuple[int, ...]
    by_lag: Tensor = field(repr=False)
    rms: Tensor = field(repr=False)
    fitted: tuple[int, int]
    rate: Tensor
    rate_fit: Tensor
    power: Tensor
    power_fit: Tensor
    row_norm: Tensor = field(repr=False)
    column_norm: Tensor = field(repr=False)
    norm_low: Tensor
    norm_high: Tensor
    schur: Tensor
    residual: Tensor
    steps: int
    levels: tuple[float, ...] = LEVELS

    number: ClassVar[int] = 0  # none of the six
    title: ClassVar[str] = "Retention"
    headline: ClassVar[str] = "rate"
    wording: ClassVar[str] = (
        "The past fades at the rate of the slowest eigenvalue, and weights that sum to one amplify nothing."
    )
    theorem: ClassVar[str] = (
        "For fixed queries, keys and gates d y_i / d v_j = alpha_ij I. For a linear phi |alpha_ij| is at most |q_i| "
        "|A_i ... A_{j+1}| |b_j k_j| / |eta_i|. The norm of that product is at most the product of the largest "
        "|eigenvalues| where all A_t are normal, whether they commute or not; else it can exceed it by any factor. A "
        "gradient grows by the spectral norm of alpha at most, which is at most sqrt(largest row mass x largest column "
        "mass)."
    )
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2510.09389",)
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="The past fades at the rate of the slowest eigenvalue.",
            shows="Both eigenvalues are 1/2 at every token, and a value weighs 4 after one token, 0 in its own.",
            code="""\
import torch
from mixerlens import CoefficientDynamics
from mixerlens.evolution import Dense

step = Dense(torch.tensor([[0.5, 4.0], [0.0, 0.5]], dtype=torch.float64))
query, key = (torch.tensor(x, dtype=torch.float64).reshape(1, 1, 1, 2) for x in ([1, 0], [0, 1]))
by_lag = CoefficientDynamics(query, key, step, length=8).operator().column(0)[0, 0]
assert torch.allclose(by_lag, torch.tensor([0, 4, 4, 3, 2, 1.25, 0.75, 0.4375], dtype=torch.float64))
""",
        ),
        Counterexample(
            against="Weights that sum to one amplify nothing.",
            shows="Every row reads token 0 alone: each sums to one, and a gradient grows by sqrt(T) = 16.",
            code="""\
import torch
from mixerlens import families
from mixerlens.principles.retention import retention

key = torch.zeros(1, 256, 1, 1, dtype=torch.float64)
key[:, 0] = 60
found = retention(families.softmax_attention(torch.ones_like(key), key, scale=1.0))
assert abs(float(found.norm_low) - 16) < 1e-9 and float(found.norm_high) < 16 + 1e-9
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "by_lag": "Quantiles over rows of |d y_i / d v_j| = |alpha_ij| at each lag i - j.",
        "rms": "Root mean square over rows of |alpha_ij| at each lag.",
        "rate": "Fitted exponential decay of rms; half of it is lost in ln 2 / rate tokens.",
        "power": "Fitted power of the decay of rms, (1 + lag)^(-power).",
        "rate_fit": "Share of the variance of log rms that the exponential explains.",
        "power_fit": "Share of the variance of log rms that the power explains.",
        "row_norm_quantiles": "Quantiles over rows of their 2-norm: size of an output for white values.",
        "column_norm_quantiles": "Quantiles over columns of their 2-norm: size of a value's gradient for white dL/dy.",
        "norm_low": "Certified lower bound of the largest factor by which a gradient grows in the mixer.",
        "norm_high": "Certified upper bound of it.",
        "schur": "Upper bound sqrt(largest row mass x largest column mass).",
        "residual": "Relative distance, in its square, within which a singular value lies of norm_low.",
    }
    units: ClassVar[dict[str, str]] = {
        "lags": "tokens",
        "rate": "1 / token",
        **dict.fromkeys(("by_lag", "rms", "norm_low", "norm_high", "schur"), "output a unit of value"),
        **dict.fromkeys(("row_norm_quantiles", "column_norm_quantiles"), "output a unit of value"),
    }

    @property
    def half_life(self) -> Tensor:
        """ln 2 / rate in tokens, (heads,): infinite where nothing decays, NaN where nothing was fitted."""
        return torch.where(self.rate > 0, math.log(2) / self.rate, self.rate * 0 + torch.inf)

    @property
    def numbers(self) -> dict[str, Any]:
        names = (
            "lags", "levels", "by_lag", "rms", "fitted", "rate", "rate_fit", "power", "power_fit", "norm_low",
            "norm_high", "schur", "residual", "steps",
        )  # fmt: skip
        ends = {
            f"{name}_quantiles": quantiles(getattr(self, name), self.levels) for name in ("row_norm", "column_norm")
        }
        return {name: getattr(self, name) for name in names} | ends


def retention(mixer: Any, *, sequence: int = 0, lags: int = LAGS, steps: int = STEPS) -> Retention:
    """Retention of each head on one sequence: one pass over alpha in blocks of rows, then ``steps`` Lanczos steps.

    Computed in float64; memory O(rows x tokens + lags x tokens), never tokens x tokens.

    Raises InputError for something that is no mixer, a sequence that is not there, or counts below 1.
    """
    if lags < 1 or steps < 1:
        raise InputError(f"retention with lags {lags} and steps {steps}: both must be at least 1")
    d = one_sequence(dynamics_of(mixer), sequence).to(torch.float64)
    wanted = curve_lags(d.time, max(2, lags))
    sides = (-1,) if d.support.causal else (-1, 1)
    parts = []
    for group in head_groups(d.heads, len(wanted) * len(sides) * d.time):
        part = d.select_heads(group)
        parts.append([*_one_pass(part, wanted, sides), *_largest(part, min(steps, d.time))])
    by_lag, rms, row_norm, column_norm, row_mass, column_mass, low, residual = map(torch.cat, zip(*parts, strict=True))
    schur = (row_mass.amax(-1) * column_mass.amax(-1)).sqrt()
    high = torch.minimum(schur, row_norm.square().sum(-1).sqrt())
    fitted, rate, rate_fit, power, power_fit = _fits(torch.tensor(wanted), rms)
    return Retention(
        lags=tuple(wanted), by_lag=by_lag, rms=rms, fitted=fitted, rate=rate, rate_fit=rate_fit, power=power,
        power_fit=power_fit, row_norm=row_norm, column_norm=column_norm, norm_low=low, norm_high=high, schur=schur,
        residual=residual, steps=min(steps, d.time), conditions=_conditions(d),
        meaning=f"{_fitted(fitted[1], rate, rate_fit, power, power_fit)} The largest factor by which a gradient grows "
        f"on its way to the values is at least {spread_text(low)} and at most {spread_text(high)}.",
    )  # fmt: skip


def _fitted(last: int, rate: Tensor, rate_fit: Tensor, power: Tensor, power_fit: Tensor) -> str:
    if bool(rate.isnan().all()):
        return "Too few lags have something to fit a decay to."
    return (
        f"Fitted over lags 1 to {last} d y_i / d v_j falls by {spread_text(rate)} nats a token (exponential, explains "
        f"{percent(rate_fit)} of the variance of its logarithm) or as (1 + lag)^-p with p {spread_text(power)} "
        f"(explains {percent(power_fit)})."
    )


def _conditions(d: CoefficientDynamics) -> tuple[Condition, ...]:
    return (
        Condition("phi is linear: scores fade as states do", d.readout.linear, repr(d.readout)),
        Condition(
            "all A_t are normal, so that a product is at most that of their largest |eigenvalues|",
            True if d.time < 2 or _normal(d) else None,
            f"{type(d.evolution).__name__} evolution",
        ),
    )


def _one_pass(d: CoefficientDynamics, lags: list[int], sides: tuple[int, ...]) -> Iterator[Tensor]:
    """Quantiles (heads, lags, levels) and root mean squares (heads, lags) by lag; then of each row its 2-norm, of each
    column its 2-norm, of each row its mass, of each column its mass, (heads, tokens)."""
    offsets = torch.tensor(sides)[:, None] * torch.tensor(lags)  # j - i
    seen = torch.full((d.heads, len(sides), d.time, len(lags)), torch.nan, dtype=torch.float64)
    sums = torch.zeros(4, d.heads, d.time, dtype=torch.float64)
    for block in RowTiles(d):
        heads = slice(block.heads.start, block.heads.stop)
        rows, columns = slice(block.lo, block.hi), slice(block.first, block.last)
        mask = block.mask[0].expand(len(block.heads), -1, -1)
        size = torch.where(mask, block.coefficients[0].abs(), 0)
        square = size.square()
        sums[0, heads, rows], sums[2, heads, rows] = square.sum(-1), size.sum(-1)
        sums[1, heads, columns] += square.sum(-2)
        sums[3, heads, columns] += size.sum(-2)
        there = torch.arange(block.lo, block.hi)[:, None, None] + offsets - block.first  # (rows, sides, lags)
        inside = (there >= 0) & (there < size.shape[-1])
        at = there.clamp(0, size.shape[-1] - 1).flatten(1).expand(len(block.heads), -1, -1)
        inside = inside.flatten(1) & mask.gather(-1, at)
        found = torch.where(inside, size.gather(-1, at), torch.nan).unflatten(-1, offsets.shape)
        seen[heads, :, rows] = found.transpose(1, 2)
    if len(sides) > 1:  # the pair (i, i) is seen from one side only
        seen[:, 1, :, 0] = torch.nan
    every = seen.flatten(1, 2).mT
    yield quantiles(every, LEVELS)
    yield every.square().nanmean(-1).sqrt()
    yield from (*sums[:2].sqrt(), *sums[2:])


def _fits(lags: Tensor, rms: Tensor) -> tuple[tuple[int, int], Tensor, Tensor, Tensor, Tensor]:
    """The lags fitted (1 up to half of the longest, so that each stands for half of the rows), and both fits."""
    last = max(1, int(lags[-1]) // 2)
    used = (lags >= 1) & (lags <= last)
    x, level = lags[used].to(torch.float64), rms[:, used].log()
    both = [_line(x if name == "rate" else x.log1p(), level) for name in ("rate", "power")]
    return (1, last), both[0][0], both[0][1], both[1][0], both[1][1]


def _line(x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the slope of level (heads, points) on x, and the share of its variance explained; NaN where unknown."""
    known = level.isfinite()
    count = known.sum(-1, keepdim=True)
    here, there = (torch.where(known, v, 0.0) for v in (x.expand_as(level), level))
    dx, dy = (torch.where(known, v - v.sum(-1, keepdim=True) / count, 0.0) for v in (here, there))
    slope = (dx * dy).sum(-1) / dx.square().sum(-1)
    flat = dy.square().sum(-1) <= 1e-24 * (1 + there.square().sum(-1))  # a constant is explained by any slope of 0
    share = torch.where(flat, 1.0, (dx * dy).sum(-1).square() / (dx.square().sum(-1) * dy.square().sum(-1)))
    enough = count[..., 0] >= 3
    return torch.where(enough, -slope, torch.nan), torch.where(enough, share, torch.nan)


def _largest(d: Mixer, steps: int) -> tuple[Tensor, Tensor]:
    """|alpha x| and the residual of a unit vector x (heads,): the best x of a Krylov space of alpha^H alpha.

    Golub and Kahan's bidiagonalisation, every vector kept orthogonal to all earlier ones; the two numbers are computed
    from x itself at the end, so that they hold whatever rounding did to the steps.
    """
    operator, dtype = d.operator(), torch.promote_types(d.coefficient_dtype, torch.float64)

    def onward(x: Tensor) -> Tensor:  # (heads, time)
        return (operator @ x.T[None, :, :, None])[0, ..., 0].T.to(dtype)

    def back(y: Tensor) -> Tensor:
        return (operator.T @ y.conj().T[None, :, :, None])[0, ..., 0].T.conj().to(dtype)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(d.heads, d.time, dtype=torch.float64, generator=generator).to(dtype)
    right, left, upper = [_unit(x)[0]], [], torch.zeros(steps, steps, d.heads, dtype=torch.float64)
    for k in range(steps):
        y, upper[k, k] = _unit(_orthogonal(onward(right[k]), left), upper)
        left.append(y)
        if k + 1 < steps:
            x, upper[k, k + 1] = _unit(_orthogonal(back(y), right), upper)
            right.append(x)
    best = torch.linalg.svd(upper.permute(2, 0, 1)).Vh[:, 0].to(dtype)  # (heads, steps)
    x = _unit(torch.einsum("hk,kht->ht", best, torch.stack(right)))[0]
    y = onward(x)
    low = y.norm(dim=-1)
    rest = (back(y) - low.square()[:, None] * x).norm(dim=-1)
    return low, rest / torch.where(low > 0, low.square(), 1.0)


def _orthogonal(x: Tensor, others: list[Tensor]) -> Tensor:
    """x without its parts along the others, twice for the digits that the first time loses."""
    for _ in range(2 if others else 0):
        basis = torch.stack(others)
        x = x - (basis * (basis.conj() * x).sum(-1, keepdim=True)).sum(0)
    return x


def _unit(x: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """x over its norm along the last axis, and the norm. Both are 0 where the norm is 0 or, beside norms (..., heads)
    of the same operator, rounding: a direction made of noise would not be orthogonal to the others."""
    norm = x.norm(dim=-1)
    if beside is not None:
        norm = torch.where(norm > ROUNDING * beside.flatten(0, -2).amax(0), norm, 0.0)
    return torch.where(norm > 0, 1 / norm, 0.0)[..., None] * x, norm
