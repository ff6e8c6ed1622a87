"""One head's card: numbers with their meaning, and the data of its pictures. Everything is computed here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.measures import Horizon, Spectrum, StateRank
from mixerlens.measures.horizon import curve_lags
from mixerlens.measures.record import plain, quantiles
from mixerlens.report.charts import distance_series, step_series
from mixerlens.report.maps import Pooled, is_signed, levels, thumbnail
from mixerlens.report.words import count, glossary, number, power

CURVE_POINTS = 140
CONVENTION = "by convention"  # what depends on the gauge
FRAME = 2.0  # the largest radius the unit circle's picture shows


@dataclass(frozen=True)
class Fact:
    """A line of a card: name, value, and one sentence for the tooltip."""

    name: str
    value: str
    help: str = ""
    note: str = ""  # a mark beside the name


@dataclass(frozen=True)
class HeadCard:
    """What the template writes; ``picture`` is what the page's script draws."""

    id: str
    head: int
    rank_of: str
    facts: list[Fact]
    reach: str
    rank: str
    spectrum_caption: str
    steps_caption: str | None
    distance_caption: str
    horizon_caption: str
    map_caption: str
    picture: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Measures of all heads of a layer; ``rank`` of the shown ones only, None for a mixer that reads both ways."""

    spectrum: Spectrum
    horizon: Horizon
    rank: StateRank | None


def card(
    id: str, d: CoefficientDynamics, measured: Measured, head: int, shown: int, pooled: Pooled, rank_of: str, unit: str
) -> HeadCard:
    """The card of one head. ``head`` numbers it in the layer, ``shown`` among the heads shown."""
    signed, h = is_signed(d), measured.horizon
    half, effective = (float(x[head]) for x in (h.half_life_measured, h.effective_context))
    spectral = quantiles(h.half_life_spectrum[head], (0.05, 0.5, 0.95)).tolist()
    side = pooled.side
    map_caption = f"α, {'signed' if signed else 'magnitude'}. " + (
        "Zoomed in, every coefficient is a cell of its own."
        if side == 1
        else f"At the finest a cell is the mean over up to {side} × {side} pairs; pairs off the support count as zero."
    )
    points, spectrum_caption = _points(measured.spectrum, head, unit)
    steps, steps_caption = step_series(measured.spectrum, head, d.time, unit)
    distance, distance_caption = distance_series(h, head, unit)
    lags = curve_lags(d.time, CURVE_POINTS)
    lags = sorted({*lags, *(int(x) for x in (half, effective) if x == x)})
    # for softmax the half-life follows a convention, the gauge: a number with its range, no mark on the curve
    has_band = spectral[1] == spectral[1] and measured.spectrum.eta is None
    curve = {
        "lag": lags,
        "mass": _rounded(h.cumulative[head, lags]),
        "uniform": _rounded(h.uniform[lags]),
        "half": plain(half),
        "effective": plain(effective),
        "spectral": plain([_finite(x) for x in spectral]) if has_band else None,
        "axis": f"lag, {unit}s back" if h.causal else f"distance, {unit}s either way",
        "label": f"Share of the absolute coefficient mass within a lag: half within {number(half)}, "
        f"90 % within {number(effective)} {unit}s.",
    }
    picture = {
        "id": id,
        "causal": d.support.causal,
        "map": levels(pooled, signed),
        "thumb": thumbnail(pooled, signed),
        "spectrum": points,
        "horizon": curve,
        "steps": steps,
        "distance": distance,
    }
    return HeadCard(
        id=id,
        head=head,
        rank_of=rank_of,
        facts=_facts(measured, head, shown, spectral, unit),
        reach=number(effective),
        rank=_rank_text(measured.rank, shown, 1),
        spectrum_caption=spectrum_caption,
        steps_caption=steps_caption,
        distance_caption=distance_caption,
        horizon_caption="Share of all |α| within a lag. Dashed: uniform weights. "
        "Dots: the smallest lag whose cumulative mass reaches 50 % and 90 %." + _band(spectral, unit) * has_band,
        map_caption=map_caption,
        picture=picture,
    )


def _band(spectral: list[float], unit: str) -> str:
    """What the band of the horizon's picture is."""
    low, _, high = spectral
    if low == high:
        return f" Thin band with a tick: the half-life from the spectrum, the same at every {unit}."
    return f" Band: half-lives from the spectrum, 5–95 % of {unit}s, tick at the median."


def _facts(measured: Measured, head: int, shown: int, spectral: list[float], unit: str) -> list[Fact]:
    h, s = measured.horizon, measured.spectrum
    low, middle, high = (power(x) for x in quantiles(s.log_slowest[head], (0.05, 0.5, 0.95)).tolist())
    gauge = CONVENTION if s.eta is not None else ""
    facts = [
        Fact("Mean distance", f"{number(float(h.mean[head]))} (uniform {number(h.uniform_mean)})", "Mean distance"),
        Fact("Effective context, 90 %", count(float(h.effective_context[head]), unit), "Effective context"),
        Fact("Half-life, measured", count(float(h.half_life_measured[head]), unit), "Half-life, measured"),
        Fact("Half-life from the spectrum", _range(spectral), "Half-life from the spectrum", gauge),
        Fact("Slowest |λ|", middle if low == high else f"{middle} ({low} – {high})", "Spectrum", gauge),
    ]
    if s.eta is not None:
        ends = (s.eta.log_low, s.eta.log_centred, s.eta.log_high)
        low, middle, high = (power(quantiles(x[head], (0.5,)).tolist()[0]) for x in ends)
        text = f"{low} – {high}; centred {middle}"
        facts.append(Fact("Gauge range of the η ratio", text, "η ratio (softmax)"))
    rank = measured.rank
    if rank is None:
        facts.append(Fact("State rank", "n/a: reads both ways", "State rank"))
    else:
        names = " / ".join(f"{t:.0e}".replace("e-0", "e−").replace("e-", "e−") for t in rank.tolerances)
        texts = " / ".join(_rank_text(rank, shown, k) for k in range(len(rank.tolerances)))
        facts.append(Fact(f"State rank at {names}", texts, "State rank"))
        by_design = "grows with the sequence" if rank.designed is None else count(rank.designed, "number")
        facts.append(Fact("State by design, a value channel", by_design, "State by design"))
    words = glossary(unit)
    return [replace(f, help=words[f.help]) for f in facts]


def _rank_text(rank: StateRank | None, shown: int, tolerance: int) -> str:
    if rank is None:
        return "–"
    mark = "≥\u2009" if bool(rank.at_cap[shown, tolerance]) else ""
    return mark + number(int(rank.ranks[shown, tolerance]))


def _range(values: list[float]) -> str:
    low, middle, high = (number(x) for x in values)
    return middle if low == high else f"{middle} ({low} – {high})"


def _points(s: Spectrum, head: int, unit: str) -> tuple[dict[str, Any], str]:
    """Eigenvalues to draw, and what to say of them."""
    values = s.eigenvalues[head].flatten()
    values = values[~values.real.isnan()]
    outside = int((values.abs() > FRAME).sum())
    inside = values[values.abs() <= FRAME]
    reach = max(1.1, 1.06 * float(inside.abs().max())) if len(inside) else 1.1
    constant = s.slowest.shape[1] == 1
    every = f"the same at every {unit}" if constant else (
        f"{len(s.tokens)} evenly spaced {unit}s" if s.sampled else f"all {unit}s"
    )  # fmt: skip
    what = "λ with η folded in, by convention (gauge)" if s.eta is not None else "λ of the step A"
    caption = f"Eigenvalues {what}: {every}."
    if outside:
        caption += f" {outside} of {len(values)} lie beyond radius {FRAME:.0f} and are not drawn."
    points = {
        "re": [round(x, 4) for x in inside.real.tolist()],
        "im": [round(x, 4) for x in inside.imag.tolist()],
        "frame": reach,
        "label": f"{len(inside)} eigenvalues on the complex plane with the unit circle.",
    }
    return points, caption


def _rounded(values: Tensor) -> list[float | None]:
    return [None if x is None else round(x, 4) for x in plain(values)]


def _finite(value: float) -> float | None:
    return value if torch.isfinite(torch.tensor(value)) else None
