"""Layers that are rings, as panels of the page: a pulse on its way around, its null, its spectrum and its memory.

`ring.survey` measures; this chooses the heads, says the numbers in words and packs the pictures. A picture holds |z| of
every node at every moment as a share of the largest node of that moment, in 8 bits, and that largest node itself: the
page draws both, computes nothing, and a stored share is off by at most 1 / 510.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixerlens.errors import MemoryBudgetError
from mixerlens.evolution import Delta, Dense, DiagonalPlusRankOne, Identity, Rotation, Scalar
from mixerlens.measures.record import plain
from mixerlens.report.heads import Fact
from mixerlens.report.layers import LayerPlan
from mixerlens.report.words import count, number, plain_text
from mixerlens.ring import Survey, survey
from mixerlens.ring.waves import LAP, NULLS

MOST_HEADS = 4
WAVE_BYTES = 2_000_000  # what the pictures of all panels may take on the page, unless one head a layer takes more
MOMENTS = 2 * LAP + 1  # of two laps
LAGS = 240  # points of a memory curve
LOST = 0.99  # lags after the last that is known better than this are left out

HELP = {
    "Coupling": "What couples the nodes. Circulant: node j hears node k with a weight of j − k alone. "
    "Scatterer: listens to all nodes by one pattern and answers in another.",
    "Lap": "In which the middle group velocity goes around the ring.",
    "Left after a lap": "What a lap leaves of the middle mode: |λ| to the power of the lap.",
    "Peak moves": "The farthest the largest node gets from node 0.",
    "Carriers": "Nodes that carry the pulse: (Σ|z|²)² / Σ|z|⁴, between 1 and all. In brackets the same for random "
    "orders of the modes, which are rings of the same layer.",
    "Distinct modes": "Modes that are no alias of another: sampled once a token, frequencies that differ by whole "
    "turns are one.",
    "Beyond Nyquist": "Modes that turn by more than half a turn a token: sampled, they look slower than they are.",
    "Tokens held": "How many past tokens all nodes hold together: the sum over lags of 1 − error, for white inputs.",
    "Ring against layer": "Largest difference between the ring, run in its nodes, and the layer's own recurrence, on "
    "at most 64 tokens, relative to its largest output.",
}


@dataclass(frozen=True)
class WaveHead:
    """One ring: its numbers, one sentence on what it does, captions of its pictures; ``picture`` is what is drawn."""

    head: int
    name: str
    facts: list[Fact]
    sentence: str
    captions: dict[str, tuple[str, str]]
    picture: dict[str, Any]


@dataclass(frozen=True)
class WavePanel:
    """The rings of one layer. constant: the same network at every token. order: what its modes are sorted by. first:
    which head is shown first."""

    id: str
    title: str
    travels: bool
    constant: bool
    order: str
    said: str
    heads: list[WaveHead]
    first: int
    start: int = LAP // 4  # the moment the page opens at, paused: a quarter of a lap, where the null tells most

    def pictures(self) -> list[dict[str, Any]]:
        return [head.picture for head in self.heads]


def wave_panel(plan: LayerPlan, layers: int, unit: str) -> WavePanel | str | None:
    """The panel of a mixer whose heads are rings with coupling, or why there is none of one that might be; None where
    nodes do not hear each other by design. layers: that share the page."""
    picked = _picked(plan, layers)
    if not picked:
        return None
    heads = [plan.shown[k] for k in picked]
    e = plan.dynamics.evolution
    followed = not e.time_invariant or isinstance(e, DiagonalPlusRankOne)  # step by step, every order anew
    try:
        found = survey(plan.dynamics.select_heads(heads), most=len(heads), nulls=1 if followed else NULLS)
    except MemoryBudgetError as error:
        return plain_text(error)
    if not isinstance(found, Survey):
        return plain_text(found.reason)
    if not found.ring.kind.startswith("circulant"):
        return None
    rows = [_head(found, k, head, unit) for k, head in enumerate(heads)]
    travels = bool((found.waves.travels & found.waves.dispersion.lap_time.isfinite()).any())
    of = plan.dynamics.heads
    by_reach = (", by reach" if len(rows) > 1 else ", the middle one by reach") if any(plan.names) else ""
    shown = "" if of == len(rows) else f" Shown: {len(rows)} of {of}{by_reach}."
    changing = (
        "" if found.ring.constant else f" It changes with the {unit}: this is the network this input made of the layer."
    )
    return WavePanel(
        id=f"{plan.id}W",
        title="a pulse travels" if travels else f"{_still(found)}no travelling wave",
        travels=travels,
        constant=found.ring.constant,
        order="frequency" if bool(found.waves.dispersion.frequency.any()) else "decay",
        said=f"{of} head{'s, each' if of > 1 else ','} a ring of {found.ring.nodes} nodes.{shown}{changing}",
        heads=rows,
        first=int(found.waves.dispersion.lap_time.sort().indices[(len(rows) - 1) // 2]),
    )


def _picked(plan: LayerPlan, layers: int) -> list[int]:
    """Places in ``plan.shown`` of the heads to look at; none where it is plain that nodes do not hear each other.

    A head's decay that is one number leaves its nodes uncoupled, and following a delta rule over random orders would
    cost more than the rest of the report. Where no mode turns nothing can travel: one head shows that.
    """
    d = plan.dynamics
    if isinstance(d.evolution, Scalar | Identity | Delta):
        return []
    turns = d.evolution.is_complex or isinstance(d.evolution, Rotation | Dense)
    bytes_a_head = 2 * MOMENTS * d.key.shape[-1] * 4 / 3
    room = int(WAVE_BYTES / max(1, layers) / bytes_a_head)
    most = max(1, min(MOST_HEADS if turns else 1, room, len(plan.shown)))
    if most == 1:
        return [len(plan.shown) // 2]
    return [round(k * (len(plan.shown) - 1) / (most - 1)) for k in range(most)]


def _head(found: Survey, k: int, head: int, unit: str) -> WaveHead:
    w, d = found.waves, found.waves.dispersion
    lap = float(d.lap_time[k])
    moving = math.isfinite(lap)
    name = f"head {head}" + f", lap {count(lap, unit)}" * moving
    nulls = f"mean of {w.nulls} random orders" if w.nulls > 1 else "a random order"
    memory, memory_caption = _memory(found, k, unit)
    picture = {
        "head": head,
        "nodes": found.ring.nodes,
        "lap": lap if moving else None,
        "tokens": w.tokens[:, k].tolist(),
        "wave": shares(w.space_time[:, k]),
        "null": shares(w.shuffled[:, k]),
        "carriers": {
            "wave": _short(w.participation[:, k]),
            "null": _short(w.null[:, k]),
            "random": "on average in random orders" if w.nulls > 1 else "in a random order",
            "label": f"Nodes that carry the pulse over time, beside {nulls}.",
        },
        "spectrum": _spectrum(found, k, unit),
        "memory": memory,
    }
    captions = {
        "spectrum": (
            "Spectrum with laps." if moving else "Spectrum.",
            f"Frequency of each mode around the ring{'; right, its turns a lap' if moving else ''}. "
            f"Shaded: up to half a turn a {unit} (Nyquist)."
            + (" Dashed: one turn a lap more from mode to mode, which keeps a pulse sharp." if moving else ""),
        ),
        "carriers": ("Carriers.", f"Nodes that carry the pulse, of {found.ring.nodes}. Dashed: {nulls}."),
        "memory": ("Memory.", memory_caption),
    }
    return WaveHead(head, name, _facts(found, k, unit), _sentence(found, k, unit), captions, picture)


def shares(size: Tensor) -> dict[str, Any]:
    """|z| (moments, nodes) as 8-bit shares of each moment's largest node, and those largest nodes."""
    peak = size.amax(-1, keepdim=True)
    codes = torch.where(peak > 0, 255 * size / peak.clamp(min=torch.finfo(size.dtype).tiny), 0).round().to(torch.uint8)
    return {"peak": _short(peak[:, 0]), "data": base64.b64encode(codes.numpy().tobytes()).decode("ascii")}


def _spectrum(found: Survey, k: int, unit: str) -> dict[str, Any]:
    d = found.waves.dispersion
    frequency, nodes = d.frequency[k], d.nodes
    line = None
    if math.isfinite(float(d.lap_time[k])):
        # neighbours a whole turn a lap apart, through the middle of the frequencies
        slope = float(frequency.diff().median())
        n = torch.arange(nodes, dtype=torch.float64)
        start = float((frequency - slope * n).median())
        line = _short(torch.tensor([start, start + slope * (nodes - 1)], dtype=torch.float64))
    return {
        "frequency": _short(frequency),
        "line": line,
        "axis": f"radians a {unit}",
        "label": f"Frequencies of {nodes} modes around the ring, {int(d.beyond_nyquist[k])} beyond Nyquist.",
    }


def _memory(found: Survey, k: int, unit: str) -> tuple[dict[str, Any] | None, str]:
    """Error of reading a past token, by lag, up to where all but a hundredth of it is lost."""
    past = found.history
    if past is None:
        return None, f"The network changes with the {unit}, so no one reading fits every {unit}."
    linear = past.linear[:, k]
    known = (linear < LOST).nonzero()
    end = min(past.window, max(2, int(known.max()) + 2 if len(known) else 2))
    stride = -(-end // LAGS)
    lags = list(range(0, end, stride))
    every = "" if stride == 1 else f" A point every {stride} lags."
    caption = (
        f"What the ring remembers: error of reading back the {unit} of each lag, as a share of its variance, from all "
        f"nodes. Dashed: from the one node where its wave stands.{every}"
    )
    if end < past.window:
        caption += f" After lag {number(end - 1)} less than {1 - LOST:.0%} is known."
    return {
        "lag": lags,
        "linear": _short(linear[lags]),
        "at_node": _short(past.at_node[lags, k]),
        "axis": f"lag, {unit}s back",
        "label": f"Error of reading the past by lag; {number(float(past.capacity[k]))} {unit}s are held in all.",
    }, caption


def _facts(found: Survey, k: int, unit: str) -> list[Fact]:
    w, d = found.waves, found.waves.dispersion
    nodes = found.ring.nodes
    facts = [Fact("Coupling", found.ring.kind, "Coupling")]
    if math.isfinite(float(d.lap_time[k])):
        facts += [
            Fact("A lap", count(float(d.lap_time[k]), unit), "Lap"),
            Fact("Left after a lap", number(float(d.lap_decay[k])), "Left after a lap"),
        ]
    for name, here, null in (("¼", w.quarter, w.quarter_null), ("½", w.half, w.half_null)):
        if not bool(here[k].isnan()):
            text = f"{number(float(here[k]))} (random {number(float(null[k]))})"
            facts.append(Fact(f"Carriers at {name} lap", text, "Carriers"))
    facts += [
        Fact("Peak moves", f"{count(int(w.peak_displacement[k]), 'node')} at most", "Peak moves"),
        Fact("Distinct modes", f"{int(d.distinct[k])} of {nodes}", "Distinct modes"),
        Fact("Beyond Nyquist", count(int(d.beyond_nyquist[k]), "mode"), "Beyond Nyquist"),
    ]
    if found.history is not None:
        facts.append(
            Fact(f"{unit[0].upper()}{unit[1:]}s held", number(float(found.history.capacity[k])), "Tokens held")
        )
    facts.append(Fact("Ring against layer", number(found.ring.error), "Ring against layer"))
    return [Fact(fact.name, fact.value, HELP[fact.help].replace("token", unit)) for fact in facts]


def _sentence(found: Survey, k: int, unit: str) -> str:
    """What a pulse does on this ring."""
    w, d = found.waves, found.waves.dispersion
    farthest = count(int(w.peak_displacement[k]), "node")
    if not math.isfinite(float(d.lap_time[k])):
        scattered = found.ring.left is not None
        how = "it spreads and is scattered" if scattered else "it spreads and fades where it is"
        return (
            f"{_still(found).capitalize()}no travelling wave: no mode turns a pulse around the ring, {how}. "
            f"Its peak moves {farthest} at most."
        )
    takes = count(float(d.lap_time[k]), unit) + ("" if found.ring.constant else " on average")
    lap = f"A lap takes {takes} and leaves {number(float(d.lap_decay[k]))} of the pulse."
    if bool(w.quarter[k].isnan()) or not bool(w.travels[k]):
        return f"{lap} Its peak moves {farthest} at most, so no travelling wave is seen here."
    sharp = f"After a quarter of it {count(float(w.quarter[k]), 'node')} of {found.ring.nodes} carry the pulse"
    null = f"{number(float(w.quarter_null[k]))} where the same modes stand in a random order"
    back = (
        " After a whole lap of equally spaced frequencies every order is back at one node."
        if w.null.shape[0] > LAP
        else ""
    )
    return f"{lap} {sharp}, {null}.{back}"


def _still(found: Survey) -> str:
    """Why nothing goes around, as the first word of a title; empty where modes do turn."""
    if bool(found.waves.dispersion.lap_time.isfinite().any()):
        return ""
    return "diffusive, " if found.ring.left is None else "scattered, "


def _short(values: Tensor) -> list[float | None]:
    """Four digits, None for what is no number."""
    return [None if x is None else float(f"{x:.4g}") for x in plain(values)]
