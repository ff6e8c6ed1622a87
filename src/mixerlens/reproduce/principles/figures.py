"""Pictures of the study "principles", from the same stored numbers as its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...report.svg import Axis, Mark, Row, point_rows
from .claims import CLAIMS_HEADING, Judged, judged
from .tables import SPECTRUM, TABLES

__all__ = ["figures"]


def figures(document: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """(SVG, caption) by the heading of the page below which each stands."""
    found = {}
    known = [each for each in judged(document["tables"]) if each.difference is not None]
    if known:
        found[CLAIMS_HEADING] = [_claims(known)]
    for name, rows in document["tables"].items():
        shown = [_accuracies(data, variants) for data, variants in rows.items() if name != SPECTRUM and variants]
        if shown:
            found[TABLES[name][0]] = shown
    return found


def _claims(known: list[Judged]) -> tuple[str, str]:
    rows = []
    for each in known:
        value, low, high = (100 * (x or 0.0) for x in (each.difference, each.low, each.high))
        said = f"{value:+.1f} points, 95 % {low:+.1f} to {high:+.1f}, {each.claim.says}: {each.verdict}"
        more, less = (side.removesuffix(", without positions") for side in (each.claim.more, each.claim.less))
        rows.append(Row(f"{each.claim.data}: {more} - {less}", [Mark(value, low, high, said, each.stays)]))
    axis = Axis("difference of test accuracies, points", -100, 100, reference=0)
    return point_rows("Every expectation: the expected better variant less the other.", ["difference"], rows, axis), (
        "Bars: 95 %, each by itself; wholly right of the dashed line: agrees. Filled: there at 5 % after Holm's "
        "correction over all of them; hollow: not."
    )


def _accuracies(data: str, variants: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    rows = []
    for name, runs in variants.items():
        scores = [100 * right / asked for right, asked in (run["outcome"]["score"] for run in runs.values())]
        mean = sum(scores) / len(scores)
        said = f"{mean:.1f} %, {len(scores)} seeds, {min(scores):.1f} to {max(scores):.1f}"
        rows.append(Row(name, [Mark(mean, min(scores), max(scores), said)]))
    guessing = 100 * next(iter(next(iter(variants.values())).values()))["chance"]
    axis = Axis("test accuracy, %", 0, 100, reference=guessing)
    return point_rows(f"Test accuracy of every variant on {data}.", [data], rows, axis), (
        f"{data}: mean over seeds, with the lowest and highest seed. Dashed: guessing."
    )
