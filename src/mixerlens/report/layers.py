"""One mixer of the trace as a section of the page: which of its heads are shown, and a strip of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixerlens import measures
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.measures import Horizon, Spectrum, StateRank
from mixerlens.measures.parts import dynamics_of, one_sequence
from mixerlens.measures.record import plain
from mixerlens.report.heads import HeadCard, Measured, card
from mixerlens.report.maps import finest_pixels, pooled_maps

RANK_TOKENS = 256  # leading tokens for state ranks that need whole blocks: singular values cost their cube
QUANTILE_HEADS = 9
EIGENVALUES = 400  # points a picture
CHANNEL_FAMILIES = ("mamba", "s4d")  # a head is one channel there


@dataclass(frozen=True)
class LayerSection:
    """What the template writes of one mixer; ``strip`` is drawn by the page's script."""

    id: str
    index: int
    path: str
    kind: str
    family: str
    heads: int
    said: str
    cards: list[HeadCard]
    strip: dict[str, Any] | None


@dataclass(frozen=True)
class LayerPlan:
    """A mixer, the measures of all its heads, and the heads to show with what each stands for."""

    id: str
    path: str
    call: Any
    dynamics: CoefficientDynamics
    spectrum: Spectrum
    horizon: Horizon
    shown: list[int]
    names: list[str]


def plan_layer(id: str, path: str, call: Any, sequence: int, max_heads: int) -> LayerPlan:
    """Measure the spectrum and the horizon of every head and choose which heads get a card."""
    d = one_sequence(dynamics_of(call), sequence)
    modes = d.evolution.eigenvalues(0, 1).shape[-1]
    spectrum = measures.spectrum(d, keep=max(8, EIGENVALUES // modes))
    horizon = measures.horizon(d, of=spectrum)
    shown, names = choose_heads(horizon, max_heads)
    return LayerPlan(id, path, call, d, spectrum, horizon, shown, names)


def choose_heads(horizon: Horizon, max_heads: int) -> tuple[list[int], list[str]]:
    """All heads if there are at most ``max_heads``; else those at evenly spaced quantiles of the effective context."""
    heads = len(horizon.mean)
    if heads <= max_heads:
        return list(range(heads)), [""] * heads
    order = by_reach(horizon)
    count = min(QUANTILE_HEADS, max_heads)
    places = [round(k * (heads - 1) / max(1, count - 1)) for k in range(count)]
    names = [f"reach: quantile {k / max(1, count - 1):.3g}" for k in range(count)]
    names[0], names[-1] = "shortest reach", "longest reach"
    return [order[p] for p in places], names


def by_reach(horizon: Horizon) -> list[int]:
    """Heads by effective context, then by mean distance; heads without mass last."""
    key = list(zip(horizon.effective_context.tolist(), horizon.mean.tolist(), range(len(horizon.mean)), strict=True))
    return [head for *_, head in sorted(key, key=lambda k: tuple(float("inf") if x != x else x for x in k))]


def section(plan: LayerPlan, budget: int, unit: str) -> LayerSection:
    """Everything about one mixer. budget: bytes its heat maps may take on the page, together."""
    d = plan.dynamics
    picked = d.select_heads(plan.shown)
    measured = Measured(plan.spectrum, plan.horizon, _rank(picked))
    pixels = finest_pixels(d.time, len(plan.shown), d.support.causal, budget)
    pooled = pooled_maps(picked, pixels)
    cards = [
        card(f"{plan.id}H{head}", picked, measured, head, k, pooled[k], plan.names[k], unit)
        for k, head in enumerate(plan.shown)
    ]
    return LayerSection(
        id=plan.id,
        index=plan.call.layer,
        path=plan.path,
        kind=plan.call.kind,
        family=plan.call.title,
        heads=d.heads,
        said=_selection(plan),
        cards=cards,
        strip=_strip(plan, unit) if d.heads > len(plan.shown) else None,
    )


def _rank(picked: CoefficientDynamics) -> StateRank | None:
    if not picked.support.causal or picked.time < 2:
        return None
    if picked.recurrent:
        return measures.state_rank(picked, cuts=4)
    return measures.state_rank(picked, cuts=1, tokens=RANK_TOKENS)


def _selection(plan: LayerPlan) -> str:
    heads, what = plan.dynamics.heads, "channel" if plan.call.family in CHANNEL_FAMILIES else "head"
    own = " (a head is one channel)" if what == "channel" else ""
    if len(plan.shown) == heads:
        return f"{heads} head{'s' if heads > 1 else ''}{own}, all shown."
    return (
        f"{heads} heads{own}. Cards for {len(plan.shown)}: those at evenly spaced quantiles of the effective context, "
        "shortest first. All of them are in the strip: bar from the 50 % lag to the 90 % lag, dot at the mean distance."
    )


def _strip(plan: LayerPlan, unit: str) -> dict[str, Any]:
    """All heads, sorted by reach."""
    h, order = plan.horizon, by_reach(plan.horizon)
    place = {head: k for k, head in enumerate(order)}
    return {
        "heads": order,
        "half": plain(h.half_life_measured[order]),
        "effective": plain(h.effective_context[order]),
        "mean": [None if x is None else round(x, 2) for x in plain(h.mean[order])],
        "picked": sorted([place[head], f"{plan.id}H{head}"] for head in plan.shown),
        "axis": f"{len(order)} heads by reach; up: {unit}s back",
        "label": f"Reach of all {len(order)} heads in {unit}s, sorted.",
    }
