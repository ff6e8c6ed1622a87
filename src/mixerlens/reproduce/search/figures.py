"""Pictures of the search, from the same stored numbers as its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...report.svg import Axis, Mark, Row, point_rows
from .results import judged, ranked, scores
from .tables import FINAL, FIRST, SECOND, TABLES

__all__ = ["figures"]


def figures(document: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """(SVG, caption) by the heading of the page below which each stands."""
    found = {
        TABLES[name][0]: [_rung(document["tables"][name])]
        for name in (FINAL, SECOND, FIRST)
        if scores(document["tables"].get(name, {}))
    }
    answer = judged(document)
    if answer is not None:
        candidate, comparisons = answer
        rows = []
        for each in comparisons:
            value, low, high = each.difference.mean, each.difference.low, each.difference.high
            said = f"{value:+.3f}, 95 % {low:+.3f} to {high:+.3f}, {each.verdict} after Holm"
            rows.append(Row(each.family, [Mark(value, low, high, said, each.verdict != "undecided")]))
        ends = [0.0, *(end for each in comparisons for end in (each.difference.low, each.difference.high))]
        axis = Axis("difference of scores", min(ends) - 0.02, max(ends) + 0.02, reference=0)
        svg = point_rows(f"Score of {candidate} less that of each family.", [f"{candidate} less"], rows, axis)
        caption = "Bars: 95 %, each by itself. Filled: there at 5 % after Holm's correction over the families."
        found["The answer"] = [(svg, caption)]
    return found


def _rung(rows: Mapping[str, Any]) -> tuple[str, str]:
    found = scores(rows)
    shown = []
    for name in ranked(found):
        values = list(found[name].values())
        said = f"{np.mean(values):.3f}, {len(values)} seeds, {min(values):.3f} to {max(values):.3f}"
        shown.append(Row(name, [Mark(float(np.mean(values)), min(values), max(values), said)]))
    least = min(0.0, *(mark.low or 0.0 for row in shown for mark in row.marks if mark is not None))
    axis = Axis("score", least, 1.0, reference=0)
    return point_rows("Score of every mixer of this rung.", ["score"], shown, axis), (
        "Mean over seeds, with the lowest and highest seed. Dashed: guessing."
    )
