"""``mixerlens design``: token mixers as specifications, shown and checked."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..files import check_writable, write_whole
from .options import Json
from .output import plain, print_json, progress, show, table, to_json_text

if TYPE_CHECKING:
    from ..design import MixerSpec

LENGTH = 256  # tokens of the parallel form whose operations are counted
ACTIONS = {"list": (0, 0), "show": (1, 1), "parts": (0, 1), "look": (1, 1)}  # names they take


class Format(StrEnum):
    """How a specification is printed."""

    yaml = "yaml"
    toml = "toml"
    json = "json"


def design(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="list | parts [SLOT] | show NAME | FILE",
            help="List the families, or the kinds of parts; show a family as a specification; look at a file.",
            show_default=False,
        ),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Build the mixer and compare its forms; exit with 1 if they disagree.")
    ] = False,
    features: Annotated[int, typer.Option(help="Width of the tokens the mixer acts on.", metavar="N")] = 64,
    form: Annotated[
        Format | None, typer.Option("--format", help="For show; else the suffix of -o, else yaml.", show_default=False)
    ] = None,
    json: Json = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Also write to this file: show the specification, else JSON.", show_default=False
        ),
    ] = None,
) -> bool:
    """Show token mixers as specifications - parts, signals, sizes - and check what follows from one.

    Every family is a specification: `mixerlens design show gated_delta_net > new.yaml`, change a part, and
    `mixerlens design new.yaml --check`. Exit code 1 means that a check fails, 2 that the specification is none.
    """
    action, names = (what[0], what[1:]) if what[0] in ACTIONS and what[0] != "look" else ("look", what)
    fewest, most = ACTIONS[action]
    if not fewest <= len(names) <= most:
        taken = "no name" if most == 0 else "one name" if fewest else "at most one name"
        raise InputError(f"design {' '.join(what)}: {action} takes {taken}; see mixerlens design --help")
    if check and action != "look":
        raise InputError(f"design {action} --check: a check takes one file or family: mixerlens design FILE --check")
    if not 1 <= features <= 2**16:
        raise InputError(f"--features {features} must be a whole number from 1 to {2**16}")
    if output is not None:
        check_writable(output)
    if action == "list":
        return _list(json, output)
    if action == "parts":
        return _parts(names[0] if names else None, json, output)
    if action == "show":
        return _show(names[0], _form(form, json, output), output)
    return _look(names[0], check, features, json, output)


def _give(result: Any, json: bool, output: Path | None) -> None:
    if output is not None:
        write_whole(output, to_json_text(result) + "\n")
    if json:
        print_json(result)


def _list(json: bool, output: Path | None) -> bool:
    from ..design import PRESETS, preset
    from ..families import FAMILIES

    specs = [preset(name) for name in PRESETS]
    result = [{"title": FAMILIES[spec.name].title, **spec.to_dict()} for spec in specs]
    _give(result, json, output)
    if not json:
        shown = table("families as specifications", "name", "A", "b", "phi", "eta", "system")
        for spec in sorted(specs, key=lambda spec: spec.name):
            parts = (spec.evolution, spec.scaling, spec.readout, spec.normalizer, spec.system)
            shown.add_row(spec.name, *(part.kind for part in parts))
        show(shown)
    return True


def _parts(slot: str | None, json: bool, output: Path | None) -> bool:
    from ..design.parts import SLOTS
    from ..design.values import REQUIRED, unknown

    if slot is not None and slot not in SLOTS:
        raise unknown("design parts", slot, SLOTS)
    result = {
        name: [
            {
                "kind": kind.name,
                "says": kind.says,
                "options": {
                    option: "required" if told.default is REQUIRED else told.default
                    for option, told in kind.options.items()
                },
            }
            for kind in kinds.values()
        ]
        for name, kinds in SLOTS.items()
        if slot in (None, name)
    }
    _give(result, json, output)
    if not json:
        for name, kinds in result.items():
            shown = table(name, "kind", "what it is", "options")
            for kind in kinds:
                shown.add_row(kind["kind"], kind["says"], "\n".join(f"{o}: {x}" for o, x in kind["options"].items()))
            show(shown)
    return True


def _form(given: Format | None, json: bool, output: Path | None) -> str:
    """The format that is asked for: a file is never written in another one than its suffix says."""
    from ..design.files import FORMATS

    asked = {"--json": "json"} if json else {}
    if given is not None:
        asked[f"--format {given.value}"] = given.value
    suffix = FORMATS.get(output.suffix.lower()) if output is not None else None
    if suffix is not None:
        asked[f"-o {output}"] = suffix
    if len(set(asked.values())) > 1:
        raise InputError(f"{' and '.join(asked)} ask for different formats: drop one or change the suffix")
    return next(iter(asked.values()), Format.yaml.value)


def _show(name: str, form: str, output: Path | None) -> bool:
    from ..design.files import read_named, to_text

    text = to_text(read_named(name), form)
    if output is not None:
        write_whole(output, text)
    sys.stdout.write(text)
    return True


def _look(name: str, check: bool, features: int, json: bool, output: Path | None) -> bool:
    from ..design.files import read_named

    spec = read_named(name)
    result: dict[str, Any] = {
        "specification": spec.to_dict(),
        "signals": {name: signal.to_dict() for name, signal in spec.all_signals.items()},
    }
    holds = True
    if check:
        found = _check(spec, features, quiet=json)
        result |= found
        holds = bool(found["forms"]["agree"])
    _give(result, json, output)
    if not json:
        show(*_tables(spec, result))
    return holds


def _check(spec: MixerSpec, features: int, quiet: bool) -> dict[str, Any]:
    """The forms and the cost of a mixer on tokens of this width."""
    import torch

    from ..design import Mixer, cost, forms

    torch.set_num_threads(1)  # the sequences are short
    with progress(not quiet) as display:
        display.add_task(f"forms of {plain(spec.name)}", total=None)
        mixer = Mixer(spec, features, seed=0)
        length = LENGTH if mixer.longest is None else min(LENGTH, mixer.longest)
        return {"forms": forms(mixer).to_json(), "cost": cost(mixer, length=length).to_json()}


def _tables(spec: MixerSpec, result: dict[str, Any]) -> list[Any]:
    from ..design.parts import SLOTS

    parts = table(f"{spec.name}: {spec.heads} heads, dim {spec.dim}, width {spec.width}", "part", "kind", "what it is")
    for slot in SLOTS:
        kind = spec.kind(slot)
        if kind.name not in ("none", "single"):
            parts.add_row(slot, kind.name, kind.says)
    needs = table("signals", "signal", "shape", "heads", "from", "made by", "between", "what it is")
    for name, signal in spec.all_signals.items():
        low, high = signal.bounds
        made = [signal.transform, signal.norm] if signal.trained else [str(signal.function)]
        made = [step for step in made if step not in ("none", "identity")]
        made += [f"times {signal.scale:.3g}"] * (signal.scale != 1)
        shape = " x ".join(map(str, signal.value_shape)) or "1"
        needs.add_row(
            name, shape, str(signal.heads), signal.source, ", ".join(made), f"{low:.3g} .. {high:.3g}", signal.says
        )
    return [parts, needs, *_verdict(result)]


def _operations(counted: dict[str, float]) -> str:
    return f"{counted['products'] + counted['rest']:.3g}"


def _verdict(result: dict[str, Any]) -> list[str]:
    if "forms" not in result:
        return []
    found, price = result["forms"], result["cost"]
    kept = f"a state of {price['state']} numbers, {price['state_bytes']} bytes"
    if price["state"] is None:
        kept = f"{price['grows_bytes']} bytes more to keep with every token, 8 a number"
    lines = [
        f"{price['parameters']} parameters on tokens of {price['features']}; {kept}",
        f"operations a token: {_operations(price['parallel'])} in parallel over {price['length']} tokens"
        + (f", {_operations(price['step'])} token by token" if price["step"] else ""),
    ]
    for form in ("chunked", "gradient", "recurrent"):
        if found[form] is not None:
            worst = max(found[form])
            lines.append(
                f"{form} form against the dense one: {worst:.1e}" + f" > {found['bar']:.0e}" * (worst > found["bar"])
            )
    if found["refused"]:
        lines.append(f"no recurrent form: {found['refused']}")
    return [*lines, "every form agrees" if found["agree"] else "FAILED: the forms differ"]
