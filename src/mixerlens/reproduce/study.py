"""The studies there are, the cells of each, and the document that a finished or unfinished run makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ..data import SETS, present
from ..errors import InputError
from . import classifiers, rings, seen
from .principles import tables as principles
from .search import tables as search
from .store import SCHEMA, Cell

__all__ = ["STUDIES", "Study", "Table", "document"]

Get = Callable[[Cell], dict[str, Any] | None]


@dataclass(frozen=True)
class Table:
    """title: what it answers. seeds: unless others are asked for. make: (scale, sets, seeds, data folder) to cells;
    sets: the real sets it is about, by scale, empty where it draws its own sequences. check(set, folder): raises
    InputError for a set whose files are missing. follow: (scale, seeds, stored cells) to cells, instead of ``make``,
    where what is run depends on what came out before; always as many cells, those without compute that cannot be
    named yet."""

    title: str
    seeds: tuple[int, ...]
    make: Callable[[str, Sequence[str], Sequence[int], str | None], list[Cell]] = lambda *given: []
    sets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    check: Callable[[str, str | None], object] = lambda name, folder: None
    follow: Callable[[str, Sequence[int], Get], list[Cell]] | None = None

    def cells(
        self, scale: str, sets: Sequence[str], seeds: Sequence[int], folder: str | None, get: Get = lambda cell: None
    ) -> list[Cell]:
        """Of these sets and seeds. get: the stored cell, as `Store.get`."""
        if self.follow is not None:
            return self.follow(scale, seeds, get)
        return self.make(scale, sets, seeds, folder)


@dataclass(frozen=True)
class Study:
    """tables by name, in the order they are run. scales: the first one is what is run unless another is asked for.
    page: the module of this package that writes the study's page: markdown(document), brief(document), html(document).
    """

    title: str
    tables: dict[str, Table]
    scales: tuple[str, ...]
    page: str

    @property
    def pages(self) -> Any:
        """The module that writes the page."""
        return import_module(f"{__package__}.{self.page}")

    def sets(self, scale: str) -> tuple[str, ...]:
        """Every real set of a scale, each once."""
        return tuple(dict.fromkeys(name for table in self.tables.values() for name in table.sets.get(scale, ())))

    def cells(
        self,
        scale: str = "quick",
        only: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        sets: Sequence[str] | None = None,
        folder: str | None = None,
        *,
        to_run: bool = True,
        get: Get = lambda cell: None,
    ) -> list[Cell]:
        """Those of the tables asked for, of the sets and seeds asked for. get: the stored cell, on which it may depend
        what others are.

        A set that no package carries is left out unless it is there or asked for by name. Raises InputError for a
        name that is not there, and, where the cells are to be run, for a set whose files are missing, with the command
        that brings them.
        """
        for kind, names, allowed in (
            ("scale", [scale], self.scales),
            ("table", only or [], tuple(self.tables)),
            (f"set of scale {scale}", sets or [], self.sets(scale)),
        ):
            unknown = [name for name in names if name not in allowed]
            if unknown:
                choices = f"choose from {', '.join(allowed)}" if allowed else "it has none, all is drawn"
                raise InputError(f"{unknown[0]!r} is no {kind} of this study; {choices}")
        if seeds is not None and (not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0):
            raise InputError(f"seeds must be different numbers from 0 on, not {list(seeds)}")
        found = []
        for name, table in self.tables.items():
            if only is None or name in only:
                chosen = [
                    each
                    for each in table.sets.get(scale, ())
                    if (each in sets if sets is not None else SETS[each].fetched or present(each, folder))
                ]
                for each in chosen if to_run else ():
                    table.check(each, folder)
                found += table.cells(scale, chosen, seeds or table.seeds, folder, get)
        return found


def _seen(scale: str, sets: Sequence[str], seeds: Sequence[int], folder: str | None) -> list[Cell]:
    return seen.cells(seeds)


def _by_scale(sets: Iterable[str] | None = None) -> dict[str, tuple[str, ...]]:
    return {
        scale: tuple(name for name in recipes if sets is None or name in sets)
        for scale, recipes in classifiers.RECIPES.items()
    }


STUDIES: dict[str, Study] = {
    "explicit-operator": Study(
        "Do interactions of waves classify real sequences? (arXiv 2604.20595)",
        {
            seen.TABLE: Table("What each order sees, without training", tuple(range(20)), _seen),
            classifiers.TABLE: Table(
                "Trained classifiers and controls", (0, 1, 2), classifiers.cells, _by_scale(), classifiers.check
            ),
            rings.TABLE: Table(
                "Are trained rings still waves, and does it matter?",
                (0, 1, 2),
                rings.cells,
                _by_scale(rings.SETS),
                classifiers.check,
            ),
        },
        tuple(classifiers.RECIPES),
        "page",
    ),
    "principles": Study(
        "What do the six design principles change in trained models? (arXiv 2510.09389)",
        {name: Table(title, seeds, principles.cells(name)) for name, (title, seeds, _) in principles.TABLES.items()},
        tuple(principles.SCALES),
        "principles.page",
    ),
    "search": Study(
        "Does a search among mixers of one state size beat the families?",
        {name: Table(title, seeds, follow=search.follow(name)) for name, (title, seeds) in search.TABLES.items()},
        tuple(search.SCALES),
        "search.page",
    ),
}


def document(name: str, scale: str, cells: Sequence[Cell], stored: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page is written from: every number of the stored cells, short, and which cells are missing.

    tables: table, set, variant, seed to result. sets: what each set is. recipes: the settings by table and set.
    """
    tables: dict[str, Any] = {}
    sets: dict[str, Any] = {}
    recipes: dict[str, Any] = {}
    versions: list[dict[str, str]] = []
    for cell in stored:
        result = dict(cell["result"])
        described = result.pop("data", None)
        if described is not None:
            sets[cell["data"]] = described
        row = tables.setdefault(cell["table"], {}).setdefault(cell["data"], {})
        row.setdefault(cell["variant"], {})[str(cell["seed"])] = _short(result) | {"cpu_seconds": cell["cpu_seconds"]}
        recipes.setdefault(cell["table"], {}).setdefault(cell["data"], {})[cell["variant"]] = cell["settings"]
        if cell["versions"] not in versions:
            versions.append(cell["versions"])
    there = {(cell["table"], cell["data"], cell["variant"], cell["seed"]) for cell in stored}
    missing = [cell.name for cell in cells if (cell.table, cell.data, cell.variant, cell.seed) not in there]
    return {
        "schema": SCHEMA,
        "study": name,
        "scale": scale,
        "cells": len(cells),
        "missing": missing,
        "versions": versions,
        "sets": sets,
        "recipes": {table: {data: _common(each) for data, each in rows.items()} for table, rows in recipes.items()},
        "tables": tables,
    }


def lost(before: Any, after: dict[str, Any]) -> list[str]:
    """The cells that an earlier document of the study has and this one has not."""
    if not isinstance(before, dict) or (before.get("study"), before.get("scale")) != (after["study"], after["scale"]):
        return []

    def names(tables: dict[str, Any]) -> set[str]:
        return {
            f"{table}/{data}/{variant}-{seed}"
            for table, rows in tables.items()
            for data, variants in rows.items()
            for variant, seeds in variants.items()
            for seed in seeds
        }

    return sorted(names(before["tables"]) - names(after["tables"]))


def _common(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The settings that all variants with a recipe share."""
    every = [each for each in settings.values() if "steps" in each or "systems" in each]
    if not every:
        return {}
    return {key: value for key, value in every[0].items() if all(each.get(key) == value for each in every)}


def _short(value: Any) -> Any:
    """Scores as [correct, total], with which examples were right where a difference needs them; floats short."""
    if isinstance(value, dict):
        if {"correct", "total"} <= value.keys():
            return {"score": [value["correct"], value["total"]]}
        found = {key: _short(each) for key, each in value.items()}
        if "test" in found:
            found["test"] = found["test"] | {"right": value["test"]["right"]}
        return found
    return float(f"{value:.6g}") if isinstance(value, float) else value
