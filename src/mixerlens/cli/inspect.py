"""``mixerlens inspect``: what is in a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MixerLensError
from ..files import check_writable, write_whole
from .forward import chosen_layers, open_model
from .inputs import random_input
from .options import Device, Json, Layers, Model, Output, Precision, parse_layers
from .output import plain, print_json, progress, show, table, to_json_text

if TYPE_CHECKING:
    from ..capture import Lens
    from ..composition import Mixer

UNKNOWN = {"heads": None, "value_dim": None, "state": None}


def inspect(
    model: Model,
    layers: Layers = None,
    dtype: Precision = None,
    device: Device = None,
    json: Json = False,
    output: Output = None,
) -> bool:
    """List the model's token mixers: layer, module path, kind, family, heads and state size.

    Heads and sizes are read off a run on two tokens.
    """
    parse_layers(layers)
    if output is not None:
        check_writable(output)
    with progress(not json) as display:
        display.add_task(f"opening {plain(model)}", total=None)
        lens = open_model(model, dtype, device)
        selection = chosen_layers(layers, lens)
        info = lens.info()
        if (tokenizer := lens.tokenizer) is not None:
            info["tokenizer_adds"] = tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"])
        sizes = _sizes(lens, selection)
        info["layers"] = [
            layer | sizes.get(layer["path"], UNKNOWN)
            for layer in info["layers"]
            if selection is None or layer["index"] in selection
        ]
    if output is not None:
        write_whole(output, to_json_text(info) + "\n")
    if json:
        print_json(info)
    else:
        show(*_tables(info))
    return True


def _sizes(lens: Lens, layers: list[int] | None) -> dict[str, dict[str, Any]]:
    """Of each mixer heads, value_dim, and state: the numbers a head carries from token to token, or "grows"; None
    for a mixer that reads both ways and has no state."""
    try:
        calls = lens.trace(random_input(lens, 2, seed=0), layers=layers).mixers
    except MixerLensError:  # it reads neither tokens nor channels, or a call has no counterpart here
        return {}
    sizes = {}
    for path, call in calls.items():
        dynamics, width = call.dynamics, call.output.shape[-1]
        sizes[path.partition("#")[0]] = {
            "heads": dynamics.heads,
            "value_dim": width,
            "state": _state(dynamics, width),
            **({"specification": call.title} if call.family == "designed" else {}),
        }
    return sizes


def _state(dynamics: Mixer, width: int) -> int | str | None:
    """A readout that is not linear may still have a finite recurrence: a polynomial one carries monomials, and a window
    of W tokens, whatever the readout, the keys and values of the W - 1 before."""
    from ..design.lifting import finite, lifted_dim

    windows = [d.support.window for d, _ in dynamics.terms]
    if dynamics.causal and all(windows):
        kept = (window - 1 for window in windows if window)
        return sum(
            many * (d.dim * (2 if d.dtype.is_complex else 1) + width)
            for many, (d, _) in zip(kept, dynamics.terms, strict=True)
        )
    if dynamics.recurrent:
        dim = dynamics.dim
    elif all(d.support.recurrent and finite(d.readout, d.dim) for d, _ in dynamics.terms):
        dim = sum(lifted_dim(d.readout, d.dim) for d, _ in dynamics.terms)
    else:
        return "grows" if dynamics.causal else None
    return dim * width * (2 if dynamics.dtype.is_complex else 1)


def _tables(info: dict[str, Any]) -> list[Any]:
    from rich.table import Table
    from rich.text import Text

    from ..report.grid import Pieces

    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in info.items():
        if name != "layers" and value not in (None, [], {}):
            facts.add_row(name.replace("_", " "), Text(_cell(value)))
    fields = ("index", "path", "kind", "family", "heads", "state")
    unit = "token" if info["vocabulary"] else "time step"
    many = f"{len(info['layers'])} token mixer{'s' if len(info['layers']) > 1 else ''}"
    title = f"{many}; state: numbers that a head carries from {unit} to {unit}"
    mixers = table(title, *fields, right=("index", "heads", "state"))
    for layer in info["layers"]:
        told = layer | {"family": layer.get("specification", layer["family"])}
        cells = {name: _cell(told[name]) for name in fields}
        mixers.add_row(*(Pieces.after(text, ".") if name == "path" else text for name, text in cells.items()))
    return [facts, "", mixers]


def _cell(value: object) -> str:
    if isinstance(value, dict):
        value = "; ".join(f"{key}: {item}" for key, item in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else plain(value)
