"""Where the words go: JSON and tables to stdout, progress to stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTH_WITHOUT_A_TERMINAL = 100


def plain(text: object) -> str:
    """Text with everything a terminal could act on (escape sequences, control characters) made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def to_json_text(value: Any) -> str:
    """Strict JSON: numbers that JSON has not (NaN, infinities) become null."""
    return json.dumps(_finite(value), indent=2, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_json(value: Any) -> None:
    sys.stdout.write(to_json_text(value) + "\n")


def show(*renderables: Any) -> None:
    """Print rich tables to stdout: as wide as the terminal, or 100 columns where there is none."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_A_TERMINAL
    console = Console(file=sys.stdout, highlight=False, width=width)
    for item in renderables:
        console.print(item, markup=False, soft_wrap=isinstance(item, str))  # a path is never cut or read as markup


def show_written(figure: Path | None) -> None:
    """Say where the figure is, if one was asked for."""
    if figure is not None:
        show(f"figure: {plain(figure)}")


def table(title: str, *columns: str, right: Collection[str] = ()) -> Any:
    """A table for ``show``; the columns named in ``right`` are aligned right."""
    from ..report.grid import Grid

    return Grid(title, columns, right)


@contextmanager
def progress(enabled: bool = True) -> Iterator[Any]:
    """A rich progress display on stderr, shown only to a person: not without a terminal, not when disabled."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not (enabled and console.is_terminal),
    ) as display:
        yield display
