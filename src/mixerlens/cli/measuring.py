"""What ``spectrum`` and ``horizon`` share: one measure of every mixer, as JSON or as a table with a row a mixer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import check_writable, write_whole
from .forward import run_once
from .options import Run
from .output import plain, print_json, progress, show, table, to_json_text

if TYPE_CHECKING:
    from torch import Tensor

    from ..capture import Trace


def measure_model(
    run: Run, measure: Callable[[Any], Any], *, json: bool, output: Path | None, to_json: Callable[[Any], Any]
) -> tuple[Trace, dict[str, Any]]:
    """Trace the model and measure every mixer call; print or write JSON where that is asked for.

    measure: mixer call -> data object; to_json: that object -> JSON.
    Returns the trace and the measure of each mixer by its path.
    """
    if output is not None:
        check_writable(output)
    with progress(not json) as display:
        trace = run_once(run, display)
        task = display.add_task("measuring", total=len(trace.mixers))
        measured = {}
        for path, mixer in trace.mixers.items():
            measured[path] = measure(mixer)
            display.update(task, advance=1)
    if json or output is not None:
        result = {
            path: {"layer": mixer.layer, "family": mixer.family, **to_json(measured[path])}
            for path, mixer in trace.mixers.items()
        }
        if output is not None:
            write_whole(output, to_json_text(result) + "\n")
        if json:
            print_json(result)
    return trace, measured


def show_table(
    title: str, trace: Trace, columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str]
) -> None:
    """A table with a row a mixer call, then the notes, one a paragraph."""
    from rich.text import Text

    from ..measures.record import unit_of
    from ..report.grid import Pieces
    from ..report.words import count

    title = f"{title} on {count(trace.inputs.shape[1], unit_of(trace))}: middle, then lowest .. highest"
    shown = table(title, "layer", "mixer", *columns, right=("layer", *columns))
    for (path, mixer), cells in zip(trace.mixers.items(), rows, strict=True):
        shown.add_row(str(mixer.layer), Pieces.after(plain(inside_its_layer(path)), "."), *cells)
    show(shown, "", *(Text(note, style="dim") for note in notes))


def inside_its_layer(path: str) -> str:
    """``"model.layers.3.self_attn"`` as ``"self_attn"``: what follows the layer's number, which has its own column."""
    parts = path.split(".")
    numbers = [k for k, part in enumerate(parts) if part.isdecimal()]
    return ".".join(parts[numbers[0] + 1 :]) if numbers else path


def span(values: Tensor, shown: Callable[[float], str] | None = None) -> str:
    """Middle, lowest and highest of some numbers on two lines, NaN left out; one number if all agree."""
    shown = shown or number
    known = values[~values.isnan()].flatten().sort().values.tolist()
    if not known:
        return "-"
    low, middle, high = (shown(known[k]) for k in (0, (len(known) - 1) // 2, -1))
    return low if low == high else f"{middle}\n{low} .. {high}"


def number(value: float) -> str:
    """Two digits after the leading one, without an exponent where that is short."""
    if math.isinf(value):
        return "never" if value > 0 else str(value)
    return f"{value:.2g}" if abs(value) < 1e-3 else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
