"""``mixerlens tasks``: what there is to train and test a sequence model on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .options import Json
from .output import print_json, show, table


def tasks(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the documentation's page.")] = False,
    json: Json = False,
) -> bool:
    """List the tasks: what each asks, its source, its sizes as published and small, and its chance level."""
    from ..tasks import document

    if markdown:
        sys.stdout.write(document.markdown())
        return True
    rows = document.rows()
    if json:
        print_json(rows)
        return True
    shown = table("tasks, as published and small", "task", "asks for", "steps", "chance")
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        steps, chances = [str(row["time"]["test"]) for row in own], [f"{row['chance']:.3g}" for row in own]
        shown.add_row(name, own[0]["asks"], *(", ".join(dict.fromkeys(each)) for each in (steps, chances)))
    show(shown)
    show("sources and all sizes: --json, or docs/tasks.md")
    return True
