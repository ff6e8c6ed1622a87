"""Principle 5, scaling: how the scores grow with the number n of dimensions, and so what b should be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.measures.record import Record
from mixerlens.principles.parts import one_run, queries, scores, spaced, spread_text
from mixerlens.principles.record import Condition, Counterexample, Principle
from mixerlens.shapes import spread

REPLICATES = 16
STUDENT = 2.131449545559323  # two-sided 95 % of Student's t with 15 degrees of freedom
CONSTANT = 1e-6  # relative spread of the norms of normalised vectors
CENTRED = 0.1  # of the deviation: a mean below it moves no score by much

Draw = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class ScoreGrowth(Record):
    """variance, mean: of z = q^T k at each of ``widths``, (widths,), over all replicates.

    slope: of log Var(z) on log n, with a 95 % interval (low, high) over the replicates; b = n^(-slope / 2) keeps the
    variance. mean_slope, mean_low, mean_high: of log |mean z|; NaN where the mean is zero within its error somewhere.
    """

    widths: tuple[int, ...]
    variance: Tensor
    mean: Tensor
    slope: float
    low: float
    high: float
    mean_slope: float
    mean_low: float
    mean_high: float

    labels: ClassVar[dict[str, str]] = {
        "variance": "Variance of q.k at each width, without a scale.",
        "mean": "Mean of q.k at each width, without a scale.",
        "slope": "Power of n with which the variance grows; low and high: 95 %.",
        "mean_slope": "Power of n with which the mean grows; null where it is zero within its error.",
    }

    def to_json(self) -> dict[str, Any]:
        return self._described({name: getattr(self, name) for name in self.__dataclass_fields__})


def _normal(width: int, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    shape = (2, count, width)
    q, k = torch.randn(shape, dtype=torch.float64, generator=draw)
    return q, k


def _positive(width: int, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    q, k = _normal(width, count, draw)
    return q.abs(), k.abs()


def _relu(width: int, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    q, k = _normal(width, count, draw)
    return q.relu(), k.relu()


def _unit(width: int, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    q, k = _normal(width, count, draw)
    return q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)


FEATURES: dict[str, Draw] = {"normal": _normal, "absolute": _positive, "relu": _relu, "unit": _unit}


def score_growth(
    features: str | Draw, widths: Sequence[int] = (16, 32, 64, 128), *, pairs: int = 1024, seed: int = 0
) -> ScoreGrowth:
    """How z = q^T k grows with n for random features: 16 replicates of ``pairs`` pairs at every width.

    features: "normal" (zero mean), "absolute" and "relu" (positive), "unit" (L2-normalised), or a function of (width,
    count, generator) that gives queries and keys (count, width). Raises InputError for an unknown name, fewer than two
    widths or pairs.
    """
    if isinstance(features, str) and features not in FEATURES:
        raise InputError(f"features are {features!r}: {', '.join(FEATURES)}, or a function")
    if len(set(widths)) < 2 or min(widths) < 1 or pairs < 2:
        raise InputError(f"widths {list(widths)} with {pairs} pairs: at least two widths and two pairs are needed")
    make = FEATURES[features] if isinstance(features, str) else features
    draw = torch.Generator().manual_seed(seed)
    drawn = [[make(width, pairs, draw) for width in widths] for _ in range(REPLICATES)]
    z = torch.stack([torch.stack([(q * k).sum(-1) for q, k in each]) for each in drawn])
    return growth_of(tuple(widths), z)


def growth_of(widths: tuple[int, ...], z: Tensor) -> ScoreGrowth:
    """From scores (replicates, widths, pairs), real or complex; 16 replicates."""
    x = torch.tensor([math.log(n) for n in widths], dtype=torch.float64)
    variance = (z - z.mean(-1, keepdim=True)).abs().square().sum(-1) / (z.shape[-1] - 1)
    mean = z.mean(-1)
    slope, low, high = _line(x, variance.log())
    error = mean.std(0) / math.sqrt(len(z))
    known = mean.mean(0).abs() > 3 * error.abs()
    mean_slope = mean_low = mean_high = math.nan
    if bool(known.all()):
        mean_slope, mean_low, mean_high = _line(x, mean.abs().log())
    return ScoreGrowth(
        widths=widths, variance=variance.mean(0), mean=mean.mean(0), slope=slope, low=low, high=high,
        mean_slope=mean_slope, mean_low=mean_low, mean_high=mean_high,
    )  # fmt: skip


def _line(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """Slope of y (replicates, points) on x: the mean over replicates and its 95 % interval by Student's t."""
    centred = x - x.mean()
    slopes = (y * centred).sum(-1) / centred.square().sum()
    mean, half = float(slopes.mean()), STUDENT * float(slopes.std()) / math.sqrt(len(slopes))
    return mean, mean - half, mean + half


@dataclass(frozen=True, eq=False, kw_only=True)
class ScalingPrinciple(Principle):
    """variance, mean: of the scores z_ij = q_i^T u_ij as the mixer reads them, scale and evolution in, over the support
    of ``rows`` rows, (heads,). ratio: |mean| over the deviation, NaN where all scores are one.

    widths: numbers m of dimensions; growth: for each head what q^T b k over m of its n dimensions, chosen at random,
    does as m grows (``ScoreGrowth``), None where it has a single one. slope, low, high, mean_slope: of that, (heads,).
    What the norms say is kept: vectors that all have the same norm are brought back to it at every width, or to
    sqrt(m / n) of it where it is sqrt n (an RMS norm). A constant scale inside b or the keys is held fixed, so slope 1
    asks for b of order 1 / sqrt n.
    """

    variance: Tensor
    mean: Tensor
    ratio: Tensor
    rows: int
    widths: tuple[int, ...]
    slope: Tensor
    low: Tensor
    high: Tensor
    mean_slope: Tensor
    growth: tuple[ScoreGrowth | None, ...] = field(repr=False)
    norms: tuple[tuple[str, str], ...]

    number: ClassVar[int] = 5
    title: ClassVar[str] = "Scaling"
    headline: ClassVar[str] = "slope"
    wording: ClassVar[str] = "b_j = O(1 / sqrt n) keeps the variance of the scores O(1)."
    theorem: ClassVar[str] = (
        "If the n products of the dimensions of q and k are uncorrelated with mean 0 and equal variance, Var(q^T k) "
        "grows like n and b = 1 / sqrt n holds it. With positive features the mean grows like n, so like sqrt n after "
        "that scale, and the scores stand ever farther from 0. For L2-normalised q and k of isotropic directions "
        "Var(q^T k) = 1 / n already: the scale then takes what is left of the differences."
    )
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2510.09389", "arXiv 1706.03762")
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="b = 1 / sqrt n keeps the scores O(1), whatever the features.",
            shows="With positive features the mean grows like n, so after b = 1 / sqrt n still like sqrt n.",
            code="""\
from mixerlens import principles

found = principles.score_growth("absolute")
assert 0.99 < found.mean_low < 1 < found.mean_high < 1.01
scaled = [float(m) / n**0.5 for m, n in zip(found.mean, found.widths)]
assert abs(scaled[-1] / scaled[0] - 8**0.5) < 0.05 and found.widths[-1] == 8 * found.widths[0]
""",
        ),
        Counterexample(
            against="b = 1 / sqrt n helps L2-normalised queries and keys as well.",
            shows="It leaves scores of deviation 1 / n: at n = 1024 all weights of a softmax are equal within 1 %.",
            code="""\
import torch
from mixerlens import families, principles

assert -1.05 < principles.score_growth("unit").slope < -0.95
draw = torch.Generator().manual_seed(0)
query, key = torch.randn(2, 1, 200, 1, 1024, dtype=torch.float64, generator=draw)
query, key = (x / x.norm(dim=-1, keepdim=True) for x in (query, key))
row = families.softmax_attention(query=query, key=key).operator().row(199)[0, 0]
assert float((200 * row - 1).abs().max()) < 0.01
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "variance": "Variance of the scores as the mixer reads them.",
        "mean": "Mean of the scores as the mixer reads them.",
        "ratio": "Absolute mean of the scores over their deviation.",
        "slope": "Power of n with which the variance of q.k grows; low and high: 95 % over random choices.",
        "mean_slope": "Power of n with which the mean of q.k grows; null where it is zero within its error.",
        "norms": "Whether queries and keys are free, of constant norm (unit), or of norm sqrt n (rms).",
        "growth": "The variances and means behind the slopes, a head each.",
    }
    units: ClassVar[dict[str, str]] = {
        "variance": "score squared",
        "mean": "score",
        "ratio": "deviations",
        "slope": "power of n",
        "low": "power of n",
        "high": "power of n",
        "mean_slope": "power of n",
        "widths": "dimensions",
        "rows": "tokens",
    }

    def to_json(self) -> dict[str, Any]:
        written = super().to_json()
        written["growth"] = [None if g is None else g.to_json() for g in self.growth]
        return written


def scaling(mixer: Any, *, sequence: int = 0, rows: int = 16, pairs: int = 1024, seed: int = 0) -> ScalingPrinciple:
    """Principle 5: variance and mean of the scores, and how they grow with the number of dimensions.

    rows: evenly spaced ones whose scores are looked at. pairs: of a query and a key for each of 16 replicates and
    every width; only dimensions on which both have something count.

    Raises InputError for what is no mixer, a sequence that is not there, or fewer than two pairs.
    """
    if pairs < 2 or rows < 1:
        raise InputError(f"scaling with {rows} rows and {pairs} pairs: at least one row and two pairs are needed")
    d = one_run(mixer, sequence)
    looked = spaced(d.time // 2, d.time, rows)
    z, mask = scores(d, looked)
    z = z[:, mask]  # (heads, pairs of a row and a column)
    mean = z.mean(-1)
    variance = (z - mean[:, None]).abs().square().mean(-1)
    ratio = torch.where(variance > 0, mean.abs() / variance.sqrt(), torch.nan)  # a single score does not deviate
    key = spread(d.key, d.heads, 2).expand(1, d.time, d.heads, d.dim)[0].transpose(0, 1)
    b = torch.ones(1, 1, 1, dtype=torch.float64) if d.scaling is None else d.scaling
    b = b.expand(1, d.time, d.heads)[0].T
    found = [_head(*parts, pairs, seed) for parts in zip(queries(d), key, b, strict=True)]
    growth = tuple(g for g, _ in found)
    norms = tuple(n for _, n in found)

    def each(name: str) -> Tensor:
        return torch.tensor([math.nan if g is None else getattr(g, name) for g in growth], dtype=torch.float64)

    slope, low, high = each("slope"), each("low"), each("high")
    silent = "" if any(g is not None for g in growth) else (
        "q.k is one product, or the same for every pair of tokens: it has no variance that could grow with n"
    )  # fmt: skip
    return ScalingPrinciple(
        variance=variance,
        mean=mean.real if mean.is_complex() else mean,
        ratio=ratio,
        rows=len(looked),
        widths=next((g.widths for g in growth if g is not None), ()),
        slope=slope,
        low=low,
        high=high,
        mean_slope=each("mean_slope"),
        growth=growth,
        norms=norms,
        silent=silent,
        meaning=_meaning(variance, ratio, slope),
        conditions=_conditions(d, ratio, norms, low, high),
    )


def _head(query: Tensor, key: Tensor, b: Tensor, pairs: int, seed: int) -> tuple[ScoreGrowth | None, tuple[str, str]]:
    """Query and key (time, dim) and b (time,) of one head: what q.k over part of the dimensions does, and the kinds of
    the norms.
    """
    both = (query != 0).any(0) & (key != 0).any(0)
    query, key = query[:, both], key[:, both]
    dim = query.shape[-1]
    norms = (_norm(query), _norm(key))
    one = all(bool((x == x[:1]).all()) for x in (query, key, b))
    if dim < 2 or one:
        return None, norms
    powers = [1 << k for k in range(dim.bit_length()) if 1 << k < dim]
    widths = (*powers[1 if len(powers) > 1 else 0 :], dim)
    draw = torch.Generator().manual_seed(seed)
    z = torch.stack([_replicate(query, key, b, norms, widths, pairs, draw) for _ in range(REPLICATES)])
    return growth_of(widths, z), norms


def _replicate(
    query: Tensor,
    key: Tensor,
    b: Tensor,
    norms: tuple[str, str],
    widths: tuple[int, ...],
    pairs: int,
    draw: torch.Generator,
) -> Tensor:
    """Scores (widths, pairs) of one choice of dimensions, nested, and one of pairs."""
    dim = query.shape[-1]
    order = torch.randperm(dim, generator=draw)
    rows, columns = (torch.randint(len(query), (pairs,), generator=draw) for _ in range(2))
    q, k = query[rows][:, order], key[columns][:, order]
    found = []
    for width in widths:
        parts = []
        for x, kind in ((q, norms[0]), (k, norms[1])):
            part = x[:, :width]
            if kind != "free":
                size = x.norm(dim=-1, keepdim=True) * (math.sqrt(width / dim) if kind == "rms" else 1.0)
                part = part * size / part.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
            parts.append(part)
        found.append(b[columns] * (parts[0] * parts[1]).sum(-1))
    return torch.stack(found)


def _norm(x: Tensor) -> str:
    """Whether vectors (time, dim) have one norm: "unit" for a constant one, "rms" where it is sqrt(dim), or "free"."""
    size = x.norm(dim=-1)
    mean = float(size.mean())
    if bool((x == x[:1]).all()) or x.shape[-1] < 2 or mean == 0 or float(size.std()) > CONSTANT * mean:
        return "free"  # a vector that is the same at every token has no rule to be seen
    return "rms" if abs(mean - math.sqrt(x.shape[-1])) <= 1e-3 * mean else "unit"


def _conditions(
    d: CoefficientDynamics, ratio: Tensor, norms: tuple[tuple[str, str], ...], low: Tensor, high: Tensor
) -> tuple[Condition, ...]:
    known = ~low.isnan()
    kinds = sorted({kind for pair in norms for kind in pair})
    includes = bool(((low <= 1) & (high >= 1))[known].all()) if bool(known.any()) else None
    return (
        Condition(
            "the scores have mean 0 (below a tenth of the deviation)",
            None if bool(ratio.isnan().any()) else bool((ratio <= CENTRED).all()),
            "the scores do not differ" if bool(ratio.isnan().all()) else f"{spread_text(ratio)} deviations",
        ),
        Condition("queries and keys are not normalised", kinds == ["free"], ", ".join(kinds)),
        Condition(
            "the variance of q.k grows like n: 1 is in the interval of the power",
            includes,
            _interval(low[known], high[known]),
        ),
    )


def _interval(low: Tensor, high: Tensor) -> str:
    if not len(low):
        return "q.k has no variance that could grow"
    if len(low) == 1:
        return f"{float(low):.2g} to {float(high):.2g}"
    return f"low ends {spread_text(low, 2)}, high ends {spread_text(high, 2)}"


def _meaning(variance: Tensor, ratio: Tensor, slope: Tensor) -> str:
    told = "The scores do not differ."
    if not bool(ratio.isnan().all()):
        told = f"Scores have variance {spread_text(variance)} and a mean of {spread_text(ratio)} deviations."
    if bool(slope.isnan().all()):
        return told
    return f"{told} Over part of the dimensions the variance of q.k grows like n^{spread_text(slope)}."
