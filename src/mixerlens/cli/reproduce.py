"""``mixerlens reproduce``: the studies behind the documentation's tables, run again, cell by cell."""

from __future__ import annotations

import os
from functools import partial
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..files import check_writable, write_whole
from .options import Json
from .output import plain, print_json, progress, show, table

if TYPE_CHECKING:
    from ..reproduce.store import Cell
    from ..reproduce.study import Study


def reproduce(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="Which study.", show_default=False)] = None,
    listing: Annotated[bool, typer.Option("--list", help="List studies, tables and what is stored of them.")] = False,
    only: Annotated[str | None, typer.Option(help="Only these tables, of --list.", show_default="all")] = None,
    sets: Annotated[str | None, typer.Option(help="Only these real sets.", show_default="all of the scale")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, for example 0,1,2.", metavar="N,N", show_default="a table's own")
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="quick: small models, half an hour (search) to three hours (principles) on one core. A study's larger "
            "one, full or paper: many hours."
        ),
    ] = "quick",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the finished cells; a second run goes on there.")
    ] = Path("reports", "reproduce"),
    data: Annotated[
        Path | None, typer.Option(help="Folder of the real sets.", show_default="where `make data` puts them")
    ] = None,
    stored: Annotated[bool, typer.Option("--stored", help="Compute nothing: show what is stored.")] = False,
    page: Annotated[
        Path | None, typer.Option(help="Also write the page (.md) and, beside it, its numbers.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also write the page with pictures to this HTML file, which needs no network.", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> bool:
    """Run a study again: every number becomes a file as soon as it is there, and an interrupted run goes on.

    The page is about the whole study: it names the cells that are not stored.
    """
    if page is not None:
        check_writable(page)
        check_writable(page.with_suffix(".json"))
    if report is not None:
        check_writable(report)
    from ..reproduce.store import Store
    from ..reproduce.study import STUDIES

    if listing or study is None:
        if study is not None:
            _known(study, STUDIES)
        _list(STUDIES if study is None else {study: STUDIES[study]}, scale, output, data, json)
        return True
    import torch

    from ..reproduce.study import document
    from ..reproduce.words import to_text

    chosen = _known(study, STUDIES)
    pages = chosen.pages
    folder = None if data is None else os.fspath(data)
    store = Store(output / study / scale)
    asked = partial(chosen.cells, scale, _names(only), _seeds(seeds), _names(sets), folder, get=store.get)
    cells = asked(to_run=not stored)
    torch.set_num_threads(1)  # these models are tiny
    if not stored:
        with progress(not json) as display:
            task = display.add_task(study, total=len(cells))

            def advance(cell: Cell, done: int, total: int) -> None:
                display.update(task, description=cell.name, completed=done, total=total)

            try:
                before: list[Cell] = []
                while [cell.name for cell in before] != [cell.name for cell in cells]:
                    store.run(cells, advance)
                    before, cells = cells, asked()  # what came out may say which cells follow
            except KeyboardInterrupt:
                done = len(store.stored(cells))
                raise KeyboardInterrupt(
                    f"{done} of {len(cells)} cells are stored in {store.folder}; the same command goes on from there, "
                    "and --stored shows them"
                ) from None
    if not stored and (waiting := [cell for cell in cells if cell.compute is None]):
        tables = ", ".join(dict.fromkeys(cell.table for cell in waiting))
        raise InputError(f"{tables}: follows from cells that are not stored in {store.folder}; run it without --only")
    whole = partial(chosen.cells, scale, folder=folder, to_run=False, get=store.get)
    everything = whole() if (page or report) is not None else cells
    every = {cell.name: cell for cell in [*everything, *cells]}
    there = store.stored(every.values())
    found = document(study, scale, list(every.values()), there)
    if page is not None:
        _keep(page, found, store.folder)
    if not there:
        raise InputError(f"no cell of this study is stored in {store.folder}")
    if page is not None:
        write_whole(page, pages.markdown(found))
        write_whole(page.with_suffix(".json"), to_text(found))
    if report is not None:
        write_whole(report, pages.html(found))
    if json:
        print_json(found)
    else:
        # of a part of the study the tables alone: the page is about the whole
        part = any(given is not None for given in (only, sets, seeds))
        show(pages.brief(found) if part else pages.markdown(found))
        done = found["cells"] - len(found["missing"])
        written = "".join(f"; {name}: {plain(path)}" for name, path in (("page", page), ("report", report)) if path)
        show(f"{done} of {found['cells']} cells are stored in {plain(store.folder)}{written}")
    return True


def _keep(page: Path, found: dict[str, Any], folder: Path) -> None:
    """Refuse to replace a page that has numbers which are not stored here: they may be the only ones there are."""
    from ..reproduce.study import lost

    numbers = page.with_suffix(".json")
    try:
        before = loads(numbers.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if gone := lost(before, found):
        raise InputError(
            f"{numbers} has {len(gone)} cells that {folder} has not ({gone[0]}, ...): run them first, "
            "without --stored, or write the page to another file"
        )


def _known(name: str, studies: dict[str, Study]) -> Study:
    if name not in studies:
        raise InputError(f"{name!r} is no study; choose from {', '.join(studies)}")
    return studies[name]


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def _seeds(given: str | None) -> list[int] | None:
    try:
        return None if given is None else [int(word) for word in given.split(",")]
    except ValueError as error:
        raise InputError(f"--seeds {given}: numbers with commas between them, 0,1,2") from error


def _list(studies: dict[str, Study], scale: str, output: Path, data: Path | None, json: bool) -> None:
    """No set needs to be there: only names are listed, and a cell is counted by its file."""
    from ..reproduce.store import Store

    scales = list(dict.fromkeys(known for each in studies.values() for known in each.scales))
    if scale not in scales:
        raise InputError(f"--scale {scale}: choose from {', '.join(scales)}")
    rows: list[dict[str, Any]] = []
    for name, each in studies.items():
        if scale not in each.scales:
            continue
        store = Store(output / name / scale)
        for key, entry in each.tables.items():
            names = entry.sets.get(scale, ())
            cells = entry.cells(scale, names, entry.seeds, None if data is None else os.fspath(data), store.get)
            row = {"study": name, "table": key, "title": entry.title, "scale": scale, "sets": list(names)}
            rows.append(row | {"seeds": list(entry.seeds), "cells": len(cells), "stored": len(store.stored(cells))})
    if json:
        print_json(rows)
        return
    shown = table(
        f"studies, scale {scale}; stored: in {plain(output)}",
        "study",
        "table",
        "answers",
        "sets",
        "cells",
        "stored",
        right=("cells", "stored"),
    )
    for row in rows:
        cells = (
            row["study"],
            row["table"],
            row["title"],
            ", ".join(row["sets"]) or "drawn",
            row["cells"],
            row["stored"],
        )
        shown.add_row(*map(str, cells))
    show(shown)
