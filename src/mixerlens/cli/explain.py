"""``mixerlens explain``: one logit of an S4D classifier as a constant, waves, and waves two by two."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..files import check_writable, write_whole
from .forward import open_model
from .inputs import read_file
from .measuring import number
from .options import Json, Model, Output
from .output import plain, print_json, progress, show, show_written, table, to_json_text
from .strip import strip

if TYPE_CHECKING:
    from torch import Tensor

    from ..explicit import Explanation

EXAMPLES = "examples.npy"
SHOWN = 5  # pairs


def explain(
    model: Model,
    which: Annotated[
        str,
        typer.Option(
            "--input",
            help="Number of an input in the model's examples.npy, or a .npy or .npz file (time, channels).",
            metavar="I|FILE",
            show_default=False,
        ),
    ],
    target: Annotated[int | None, typer.Option(help="Explain this class.", show_default="the predicted one")] = None,
    against: Annotated[int | None, typer.Option(help="Subtract this class's logit.", show_default=False)] = None,
    segments: Annotated[int, typer.Option(help="Segments of the input, each one wave.", metavar="N")] = 32,
    pairs: Annotated[
        str, typer.Option(help="Remove so many pairs of segments, those that interact most, or all.", metavar="N|all")
    ] = "64",
    baseline: Annotated[
        Path | None,
        typer.Option(help=".npy or .npz file that stands for no input, a training mean, say.", show_default="zero"),
    ] = None,
    hessian: Annotated[bool, typer.Option("--hessian", help="The Hessian between segments too.")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the map to this .png, .pdf or .svg file.", show_default=False)
    ] = None,
    json: Json = False,
    output: Output = None,
) -> bool:
    """Explain one logit of an S4D classifier: a constant, linear waves and their interactions, in float64.

    Beside it what happens when segments of the input are removed. Exit code 1 if the account does not sum to the logit.
    """
    removed = _pairs(pairs)
    if output is not None:
        check_writable(output)
    from .. import explicit
    from ..explicit.explain import NotCertifiedError
    from ..explicit.figure import draw
    from ..explicit.layer import check_model
    from ..figures import check_drawable

    if figure is not None:
        check_drawable(figure)
    with progress(not json) as display:
        task = display.add_task(f"opening {plain(model)}", total=None)
        opened = open_model(model, None, None).model
        check_model(opened)
        inputs, label = _input(which, model)
        away = None if baseline is None else _floats(baseline, "--baseline")
        display.update(task, description="removing segments")
        try:
            found = explicit.explain(
                opened,
                inputs,
                target,
                against=against,
                segments=segments,
                baseline=away,
                removed_pairs=removed,
                hessian=hessian,
                progress=lambda done, total: display.update(task, completed=done, total=total),
            )
        except NotCertifiedError as error:
            typer.echo(f"mixerlens: {plain(error)}", err=True)
            return False
    if figure is not None:
        draw(found, figure)
    if json or output is not None:
        result = {"model": model, "input": which, "label": label, **found.to_json()}
        if output is not None:
            write_whole(output, to_json_text(result) + "\n")
        if json:
            print_json(result)
    if not json:
        _show(found, plain(f"{model}, input {which}"), label)
        show_written(figure)
    return True


def _pairs(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise InputError(f"--pairs {text!r}: give a number from 0 on, or all")
    return int(text)


def _input(which: str, model: str) -> tuple[Tensor, int | None]:
    """The input that --input names and, where the model's folder knows it, its label. Raises InputError."""
    from ..data.examples import examples as of_folder

    known = of_folder(model)
    if not re.fullmatch(r"-?\d+", which):
        inputs = _floats(Path(which), "--input")
        number = None if known is None else known.find(inputs.numpy())
        return inputs, None if known is None or number is None else known.label(number)
    examples = Path(model).expanduser() / EXAMPLES
    if not examples.is_file():
        raise InputError(
            f"--input {which}: {model} has no {EXAMPLES} to number; give a .npy or .npz file (time, channels)"
        )
    inputs = _floats(examples, "--input")
    if inputs.ndim != 3:
        raise InputError(f"{examples} is {tuple(inputs.shape)}, not (inputs, time, channels); give a .npy or .npz file")
    if not 0 <= int(which) < len(inputs):
        raise InputError(f"--input {which}: {examples} has inputs 0 .. {len(inputs) - 1}")
    return inputs[int(which)], None if known is None else known.label(int(which))


def _floats(path: Path, option: str) -> Tensor:
    import numpy as np
    import torch

    try:
        array = read_file(path)
    except InputError as error:
        raise InputError(str(error).replace("--input", option, 1)) from error
    if isinstance(array, str) or array.dtype.kind != "f":
        kind = "text" if isinstance(array, str) else f"{array.dtype} {array.shape}"
        raise InputError(f"{option} {path}: holds {kind}; floats (time, channels) are needed, in a .npy or .npz file")
    return torch.from_numpy(array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32))


def _show(found: Explanation, subject: str, label: int | None) -> None:
    from rich.text import Text

    from ..explicit.words import notes, terms

    show(subject)
    title = f"{found.pairs.question}; the model predicts class {found.predicted}"
    grid = table(title + ("" if label is None else f", its label is {label}"), "term", "value", right=("value",))
    for name, value in (
        *terms(found),
        ("total", found.total),
        ("the model's logit, float64", found.logit),
        (f"the same in {found.dtype}, as stored", found.logit_as_stored),
    ):
        grid.add_row(name, f"{value:.9f}")
    grid.add_row("error of the total, relative to its size", number(found.relative_error))
    show(grid, "", *_strips(found), "", _top(found), "")
    show(*(Text(note, style="dim") for note in notes(found, number)))


def _strips(found: Explanation) -> list[Any]:
    """A line of blocks over the segments for each view of the input; positive above, negative below."""
    from rich.text import Text

    account, removal = found.pairs, found.removal
    assert removal is not None
    rows = {
        "linear": account.linear[:-1],
        "interactions": account.interactions[:-1].sum(1),
        "lost without": removal.effects,
    }
    steps = f"{account.borders[-1]} time steps in {len(account.borders) - 1} segments"
    title = Text(f"over {steps}, each on its own scale, the largest at the right", "bold")
    return [title, *(line for name, values in rows.items() for line in strip(name, values.tolist()))]


def _top(found: Explanation) -> Any:
    """The pairs of segments with the largest interactions, beside what removing them does."""
    removal = found.removal
    assert removal is not None
    columns = ["time steps", "and", "interaction 2 A", "synergy when removed"]
    if removal.curvature is not None:
        columns.append("Hessian")
    grid = table("largest interactions of two segments", *columns, right=columns[2:])
    for k in removal.account.abs().argsort(descending=True, stable=True)[:SHOWN].tolist():
        g, other = removal.pairs[k].tolist()
        values = [number(float(each[k])) for each in (removal.account, removal.synergy)]
        cells = [_steps(found, g), _steps(found, other), *values]
        if removal.curvature is not None:
            cells.append(number(float(removal.curvature[g, other])))
        grid.add_row(*cells)
    return grid


def _steps(found: Explanation, segment: int) -> str:
    low, high = found.pairs.borders[segment : segment + 2]
    return str(low) if high == low + 1 else f"{low}-{high - 1}"
