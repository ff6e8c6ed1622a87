"""``mixerlens principles``: the six design principles, measured on a model, a specification or a family."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..figures import check_drawable
from ..files import check_writable, write_whole
from .measuring import inside_its_layer
from .options import Json, Output, Run
from .output import plain, print_json, progress, show, show_written, table, to_json_text

if TYPE_CHECKING:
    from ..principles.model import MixerPrinciples, ModelPrinciples

SPECIFICATIONS = (".yaml", ".yml", ".toml", ".json")


def principles(
    run: Run,
    heads: Annotated[
        int | None, typer.Option(help="At most N heads a mixer, evenly spaced.", metavar="N", show_default="all")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Only these, for example readout,position.", show_default="all")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw them to this .png, .pdf or .svg file.", show_default=False)
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="In JSON every number of every head too: megabytes for many heads.")
    ] = False,
    json: Json = False,
    output: Output = None,
) -> bool:
    """Measure the six design principles of a mixer: value, meaning, theorem, conditions and counter-case.

    MODEL may also be a specification (.yaml, .toml, .json) or the name of a family; their inputs are drawn by --seed.
    """
    if figure is not None:
        check_drawable(figure)
    if output is not None:
        check_writable(output)
    which = None if only is None else [name.strip() for name in only.split(",")]
    _known(which)
    with progress(not json) as display:
        found = _measured(run, heads, which, display)
    result = found.to_json(full=full)
    if output is not None:
        write_whole(output, to_json_text(result) + "\n")
    if figure is not None:
        from ..principles.figure import draw

        draw(found, figure)
    if json:
        print_json(result)
    else:
        _show(found)
        show_written(figure)
    return True


def _known(which: list[str] | None) -> None:
    """A slip in --only should not cost the time to load a model."""
    from ..principles.report import MEASURES

    for name in which or ():
        if name not in MEASURES:
            raise InputError(f"--only: no principle is called {name!r}; choose from {', '.join(MEASURES)}")


def _measured(run: Run, heads: int | None, which: list[str] | None, display: Any) -> ModelPrinciples:
    from ..families import FAMILIES
    from ..principles.model import LENGTH, of_family, of_model, of_spec

    task = display.add_task("measuring", total=None)

    def tell(what: str, done: int, total: int) -> None:
        display.update(task, description=plain(what), completed=done, total=total)

    shared = {"heads": heads, "which": which, "seed": run.seed, "progress": tell}
    there = Path(run.model)
    if there.suffix.lower() in SPECIFICATIONS and not there.is_dir():
        _refuse_inputs(run, "a specification")
        from ..design.files import read

        return of_spec(read(there), length=run.length or LENGTH, **shared)
    if run.model in FAMILIES and not there.exists():
        _refuse_inputs(run, "a family")
        return of_family(run.model, length=run.length or LENGTH, **shared)
    from .forward import run_once

    return of_model(run_once(run, display), note=_inputs(run), **shared)


def _inputs(run: Run) -> str:
    if run.file is not None:
        return f"input {run.file}"
    return "the text given" if run.text is not None else f"random inputs drawn with seed {run.seed}"


def _refuse_inputs(run: Run, what: str) -> None:
    """Only --length and --seed say something of inputs that are drawn."""
    if run.length is not None and run.length < 1:
        raise InputError(f"--length {run.length}: at least 1 token is needed")
    options = {"file": "input"}
    for field in fields(run):
        if field.name not in ("model", "length", "seed") and getattr(run, field.name) is not None:
            name = options.get(field.name, field.name)
            raise InputError(f"--{name} is for models: the inputs of {what} are drawn, by --length and --seed")


def _show(found: ModelPrinciples) -> None:
    """A table a principle, then what is true of it, where it holds, and the case against its wording."""
    from rich.text import Text

    from ..principles.words import found as of
    from ..principles.words import name_of
    from ..report.grid import Pieces
    from ..report.words import count

    many = count(found.tokens, found.unit)
    show(Text(f"principles of {plain(found.source)} on {many}: lowest to highest of the heads"))
    if found.note:
        show(Text(f"{plain(found.note)}.", style="dim"))
    names = list(dict.fromkeys(name for m in found for name in (*m.report.records, *m.report.refused)))
    for name in names:
        records = [m.report[name] for m in found if name in m.report.records]
        title = name_of(records[0]) if records else name
        shown = table(title, "layer", "mixer", "value", "meaning", right=("layer",))
        for m in found:
            value, meaning = of(name, m)
            where = Pieces.after(plain(_name(m)), ".")
            shown.add_row(str(m.layer), where, value.replace("; ", "\n"), meaning)
        show("", shown)
        if records:
            _truth(name, records[0], found)


def _name(mixer: MixerPrinciples) -> str:
    """Of a mixer of one's own its specification's name, else where it stands in its layer."""
    if mixer.specification is not None:
        _, several, part = mixer.path.rpartition(", part ")
        return mixer.specification + several + part if several else mixer.specification
    return mixer.path if mixer.kind in ("specification", "family") else inside_its_layer(mixer.path)


def _truth(name: str, record: Any, found: ModelPrinciples) -> None:
    from rich.text import Text

    from ..principles.words import conditions

    show(Text.assemble(("wording: ", "bold"), record.wording), Text.assemble(("true: ", "bold"), record.theorem))
    for text, each in conditions(name, found):
        told = "; ".join(f"{word}, {seen}{_where(layers, len(each))}" for word, seen, layers in each)
        show(Text.assemble(("holds here? ", "bold"), f"{text}: {plain(told)}."))
    for example in record.counterexamples:
        show(Text.assemble(("counter-case: ", "bold"), f"{example.against} {example.shows}"))


def _where(layers: list[int], kinds: int) -> str:
    if kinds == 1:
        return ""
    return f" (layer{'s' if len(set(layers)) > 1 else ''} {', '.join(map(str, dict.fromkeys(layers)))})"
