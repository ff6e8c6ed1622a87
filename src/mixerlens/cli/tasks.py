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
    shown = table("tasks", "task", "preset", "asks for", "steps", "chance", "source", right=("steps", "chance"))
    for row in rows:
        cells = row["name"], row["preset"], row["asks"], row["time"]["test"], f"{row['chance']:.4f}", row["source"]
        shown.add_row(*map(str, cells))
    show(shown)
    return True
