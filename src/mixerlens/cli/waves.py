"""``mixerlens waves``: state space layers as rings of oscillators, and what travels on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError, UnsupportedError
from ..figures import check_drawable
from .measuring import measure_model, number, show_table, span
from .options import Json, Output, Run
from .output import show_written


def waves(
    run: Run,
    rings: Annotated[int, typer.Option(help="Heads of each layer to look at, evenly spaced.", metavar="N")] = 64,
    nulls: Annotated[int, typer.Option(help="Random orders of the modes beside each number.", metavar="N")] = 20,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the waves to this .png, .pdf or .svg file.", show_default=False)
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="In JSON the errors of reading every past lag too: megabytes for many heads.")
    ] = False,
    json: Json = False,
    output: Output = None,
) -> bool:
    """Show state space layers as rings of oscillators: laps, pulses and memory, beside random orders of the modes.

    A linear layer is one ring a head, equal to it to rounding; its only nonlinearity is the decoder behind it.
    """
    if rings < 1 or nulls < 1:
        raise InputError(f"--rings {rings} --nulls {nulls}: both must be at least 1")
    if figure is not None:
        check_drawable(figure)
    from ..measures.record import unit_of
    from ..ring import Survey, survey

    trace, measured = measure_model(
        run,
        lambda mixer: survey(mixer, most=rings, nulls=nulls, seed=run.seed),
        json=json,
        output=output,
        to_json=lambda found: found.to_json(curves=full),
    )
    found = {path: each for path, each in measured.items() if isinstance(each, Survey)}
    if not found:
        reasons = sorted({each.reason for each in measured.values()})
        raise UnsupportedError(f"no mixer of {run.model} is a ring: {reasons[0]}")
    if figure is not None:
        from ..ring.figure import draw

        draw(found, figure, unit=unit_of(trace))
    if not json:
        unit = unit_of(trace)
        show_table(
            "waves on the rings",
            trace,
            (
                "rings x nodes",
                "coupling",
                f"a lap, {unit}s",
                "left after a lap",
                "carriers at 1/4 lap",
                "over a lap",
                "travels",
            ),
            (_cells(each) for each in measured.values()),
            _notes(measured, unit),
        )
        show_written(figure)
    return True


def _cells(found: Any) -> tuple[str, ...]:
    if not hasattr(found, "ring"):
        return ("no ring", *["-"] * 6)
    w, d = found.waves, found.waves.dispersion
    count = f"{len(found.heads)} x {found.ring.nodes}"
    return (
        count if len(found.heads) == found.of else f"{count}\nof {found.of}",
        found.ring.kind,
        span(d.lap_time),
        span(d.lap_decay),
        _beside(w.quarter, w.quarter_null),
        _beside(w.lap_mean, w.lap_null),
        f"{int(w.travels.sum())} of {len(w.travels)}",
    )


def _beside(values: Any, null: Any) -> str:
    """The middle, and under it that of the random orders."""
    if bool(values.isnan().all()):
        return "-"
    return f"{number(float(values.nanmedian()))}\nnull {number(float(null.nanmedian()))}"


def _notes(measured: dict[str, Any], unit: str) -> list[str]:
    found = [each for each in measured.values() if hasattr(each, "ring")]
    error = max(each.ring.error for each in found)
    notes = [
        f"rings differ from their layers by at most {error:.1e} of the largest output (noise of 64 {unit}s).",
        "carriers: nodes that share a pulse (participation ratio); null: the same for random orders of the modes, "
        "which are equally exact rings.",
    ]
    free = ("circulant", "circulant, warped clock")
    coupled = [each.waves for each in found if each.ring.kind in free]
    if still := [waves for waves in coupled if bool(waves.diffusive.all())]:
        farthest = max(int(waves.peak_displacement.max()) for waves in still)
        notes.append(
            "no mode turns: diffusive, no travelling wave; a pulse spreads in place, and its peak moves "
            f"{farthest} nodes at most."
        )
    if any(not bool((waves.travels | waves.diffusive).all()) for waves in coupled):
        notes.append(
            f"modes that turn without a pulse that travels: too few nodes, too few {unit}s, damped or spread too fast."
        )
    if any(each.ring.kind == "no coupling" for each in found):
        notes.append("no coupling: all modes of a head decay alike, so that no node hears another.")
    if any(each.ring.left is not None for each in found):
        notes.append("scatterer: what keys erase or a low rank adds couples the nodes too, and is no wave.")
    folded = [each for each in found if not each.ring.kind.startswith("no coupling")]
    aliases = sum(int((each.ring.nodes - each.waves.dispersion.distinct).sum()) for each in folded)
    if aliases:
        notes.append(f"{aliases} modes are aliases: sampled once a {unit} they are equal to others.")
    held = [
        f"{number(float(h.capacity.median()))} of at most {min(h.window, 2 * h.nodes)}"
        for each in found
        if (h := each.history) is not None
    ]
    if held:
        notes.append(
            f"past {unit}s that the state holds, two real numbers a node, middle of a layer: {', '.join(held)}."
        )
    for reason in sorted({each.reason for each in measured.values() if not hasattr(each, "ring")}):
        notes.append(f"no ring: {reason}.")
    return notes
