"""The options the verbs share, and how their values are read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError

CHECKS = ("operator", "step", "chunk", "padding")


class Dtype(StrEnum):
    """What the weights and the forward pass are computed in."""

    float32 = "float32"
    float64 = "float64"


Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a hub id or a .gguf file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")]
Layers = Annotated[str | None, typer.Option(help="Only these layers, for example 0,3-5.", show_default="all")]
Precision = Annotated[Dtype | None, typer.Option("--dtype", help="Convert the model.", show_default="as stored")]
Device = Annotated[str | None, typer.Option(help="Where to run: cpu, cuda, cuda:1.", show_default="cpu")]
Text = Annotated[str | None, typer.Option(help="Text to run the model on.", show_default=False)]
InputFile = Annotated[
    Path | None,
    typer.Option(
        "--input",
        help=".npy or .npz array (batch, time, channels) or ids (batch, time); else UTF-8 text.",
        show_default=False,
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        help="N seeded random tokens or time steps; with text, its first N tokens.", metavar="N", show_default="128"
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the random input.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Also write the JSON to this file.", show_default=False)
]
Checks = Annotated[str | None, typer.Option(help=f"Only these checks, of {','.join(CHECKS)}.", show_default="all")]


@dataclass(frozen=True)
class Run:
    """One run of a model: what every verb but ``inspect`` asks for. The fields are options of the command line."""

    model: Model
    text: Text = None
    file: InputFile = None
    length: Length = None
    seed: Seed = 0
    layers: Layers = None
    dtype: Precision = None
    device: Device = None


def parse_layers(text: str | None) -> list[range] | None:
    """``"0,3-5"`` to ``[range(0, 1), range(3, 6)]``; None stays None (all layers).

    Raises:
        InputError: something that is neither a number nor a range low-high.
    """
    if text is None:
        return None
    ranges = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or (dash and int(high) < int(low)):
            raise InputError(f"--layers {text!r}: {part!r} is no layer; write numbers and ranges, for example 0,3-5")
        ranges.append(range(int(low), int(high or low) + 1))
    return ranges


def parse_checks(text: str | None) -> tuple[str, ...]:
    """``"step,chunk"`` to ``("step", "chunk")``; None means all of them.

    Raises:
        InputError: a name that is no check.
    """
    if text is None:
        return CHECKS
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in CHECKS:
            raise InputError(f"--checks {text!r}: {name!r} is no check; choose from {', '.join(CHECKS)}")
    return names
