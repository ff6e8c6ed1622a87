"""``mixerlens families``: every architecture of the registry, measured again."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..files import check_writable, write_whole
from .options import Json, Output
from .output import print_json, progress, show, table, to_json_text

SEEDS = 5  # random inputs a family under --check


def families(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Only these families, or those of these functions.", show_default="all"
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help=f"Measure on {SEEDS} random inputs, and exit with 1 if a row fails.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the documentation's table.")] = False,
    json: Json = False,
    output: Output = None,
) -> bool:
    """List the architectures that are covered, each measured in this run against its own plain recurrence in float64.

    With --check on several random inputs; exit code 1 then means that a row misses its bar. What is not in the family
    is listed with what shows it.
    """
    import torch

    from ..families import document, measure

    if output is not None:
        check_writable(output)
    torch.set_num_threads(1)  # these mixers are tiny
    with progress(not json and not markdown) as display:
        task = display.add_task("families", total=None)
        rows = measure(
            names or None,
            seeds=SEEDS if check else 1,
            progress=lambda name, done, total: display.update(task, description=name, completed=done, total=total),
        )
    result = [row.to_json() for row in rows]
    if output is not None:
        write_whole(output, to_json_text(result) + "\n")
    if json:
        print_json(result)
    elif markdown:
        sys.stdout.write(document.markdown(rows))
    else:
        _show(rows)
    return not check or all(row.holds for row in rows)


def _show(rows) -> None:
    members, outsiders = [r for r in rows if r.member], [r for r in rows if not r.member]
    if members:
        columns = ("family", "error", "A_t", "readout", "normalizer", "state")
        shown = table("members: relative error against the plain recurrence", *columns, right=("error",))
        for row in members:
            error = f"{row.error:.1e}" + ("" if row.holds else f" > {row.bar:.0e}")
            shown.add_row(row.name, error, row.evolution, row.readout, row.normalizer, row.state)
        show(shown)
    if outsiders:
        shown = table("not members: what shows it", "mixer", "witness")
        for row in outsiders:
            shown.add_row(row.name, row.witness)
        show(shown)
    missed = [row.name for row in rows if not row.holds]
    count = (
        f"{len(members)} member{'s' * (len(members) != 1)}, {len(outsiders)} non-member{'s' * (len(outsiders) != 1)}"
    )
    show(f"{count}; " + (f"FAILED: {', '.join(missed)}" if missed else "every row holds"))
