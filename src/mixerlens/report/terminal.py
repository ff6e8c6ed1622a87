"""The certificate in a terminal: the same rows and words as on the page."""

from __future__ import annotations

from typing import Any

from mixerlens.report.checks import NOISE_WORDS, grouped, places, reason, verdict
from mixerlens.report.grid import Grid, Pieces
from mixerlens.report.words import NOISE_SHORT, plain_text

COLUMNS = ("status", "check", "variant", "error", "tolerance", "absolute", "worst at", "reason")
COLOURS = {"pass": "green", "fail": "bold red", "n/a": "dim"}


def certificate_table(certificate: Any, unit: str = "token") -> Any:
    """What ``rich`` prints of a certificate: the verdict, a row a check, and below it every reason once.

    Mixers that pass one kind of operator check share a row, the one nearest to its tolerance. Checks that do not apply
    for the same reason share one too. unit: what a position counts, "token" or "time step".
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Grid(
        f"certificate: {_lower(verdict(certificate, unit).headline)}",
        COLUMNS,
        right=("error", "tolerance", "absolute"),
        spare=("absolute", "worst at"),
    )
    numbers: dict[str, int] = {}
    for k, group in enumerate(grouped(certificate.to_json()["checks"])):
        worst = group.worst
        why = numbers.setdefault(reason(worst), len(numbers) + 1)
        grid.styles[k, "status"] = COLOURS[worst["status"]]
        grid.add_row(
            worst["status"],
            group.names,
            Pieces.after(plain_text(group.variant), "/- "),
            *(_number(worst[name]) for name in ("max_rel", "tolerance", "max_abs")),
            Pieces.after(places(worst, unit), ","),
            str(why),
        )
    notes = Table.grid(padding=(0, 1, 0, 0))
    notes.add_column(justify="right", no_wrap=True)
    notes.add_column(overflow="fold")
    for why, number in numbers.items():
        notes.add_row(Text(str(number), "dim"), Text(why))
    legend = [
        "error and tolerance are relative to the largest reference value, head by head; a skip counts by its rounding."
    ]
    if any(NOISE_WORDS in why for why in numbers):
        legend.append(f"{NOISE_WORDS}: {NOISE_SHORT}")
    return Group(grid, Text(), notes, *(Text(line, "dim") for line in legend))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.1e}"
