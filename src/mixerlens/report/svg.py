"""Charts as SVG text, for pages without a script: rows of points with their intervals, and lines over categories.

Marks differ in shape and in colour, so that either is enough to tell them apart; every mark carries its numbers as a
title. All text is escaped. Colours and type come from the page's style sheet by class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Axis", "Mark", "Row", "lines", "point_rows"]

STYLES = ("one", "two", "three", "four", "five", "six")  # classes of the style sheet, each with a shape of its own


@dataclass(frozen=True)
class Axis:
    """name: with its unit. reference: where a line across stands, None for none."""

    name: str
    low: float
    high: float
    reference: float | None = None

    @property
    def ticks(self) -> list[float]:
        """About six round numbers."""
        least = (self.high - self.low) / 6
        power = 10 ** math.floor(math.log10(least))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= least * (1 - 1e-9))
        return [k * step for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Mark:
    """value: with its interval where there is one. said: what the title says of it. filled: or hollow."""

    value: float
    low: float | None = None
    high: float | None = None
    said: str = ""
    filled: bool = True


@dataclass(frozen=True)
class Row:
    """A label and a mark a series, None where there is none."""

    label: str
    marks: Sequence[Mark | None]


def point_rows(label: str, series: Sequence[str], rows: Sequence[Row], axis: Axis) -> str:
    """A block a row, in it a line a series: its mark and interval. label: what the picture shows, for who hears it."""
    wide, right, step, gap = 860, 24, 15, 12
    left = 24 + max(6.2 * len(row.label) for row in rows)
    top = 4 + _legend_height(series, wide, left)
    high = top + sum(step * len(row.marks) + gap for row in rows) + 40
    found = _Drawing(wide, high, label)
    bottom = high - 40
    across = _scale(axis, left, wide - right)
    for value in axis.ticks:
        found.put("path", **{"class": "hair"}, d=f"M{across(value):.1f} {top}V{bottom}")
        found.text(across(value), bottom + 16, _short(value), "middle")
    if axis.reference is not None:
        found.put("path", **{"class": "reference"}, d=f"M{across(axis.reference):.1f} {top}V{bottom}")
    found.text((left + wide - right) / 2, high - 5, axis.name, "middle")
    found.legend(series, left)
    y = top + gap / 2
    for row in rows:
        found.text(left - 12, y + step * len(row.marks) / 2 + 4, row.label, "end")
        for k, mark in enumerate(row.marks):
            if mark is not None:
                found.mark(across, y + step / 2, mark, k, f"{row.label}, {series[k]}: {mark.said}")
            y += step
        y += gap
        found.put("path", **{"class": "hair"}, d=f"M{left} {y - gap / 2:.1f}H{wide - right}")
    return found.finished()


def lines(label: str, series: Sequence[str], columns: Sequence[str], rows: Sequence[Row], axis: Axis, name: str) -> str:
    """A small panel a row: its marks joined over the columns, as many a series, one series after another.

    name: of what the columns are.
    """
    each, space, most = 270, 18, 3
    across = min(most, len(rows))
    wide, tall = max(560, across * each + (across - 1) * space), 216
    top = 6 + _legend_height(series, wide, 36)
    found = _Drawing(wide, top + (tall + 12) * math.ceil(len(rows) / most), label)
    found.legend(series, 36)
    for k, row in enumerate(rows):
        x0, y0 = (k % most) * (each + space) + 36, top + (k // most) * (tall + 12)
        low, high = y0 + tall - 46, y0 + 20
        up = _scale(axis, low, high)
        at = [x0 + 14 + (each - 60) * c / max(1, len(columns) - 1) for c in range(len(columns))]
        found.text(x0, y0 + 8, row.label, "start", "title")
        for value in axis.ticks:
            found.put("path", **{"class": "hair"}, d=f"M{x0} {up(value):.1f}H{x0 + each - 36}")
            found.text(x0 - 6, up(value) + 4, _short(value), "end")
        if axis.reference is not None:
            found.put("path", **{"class": "reference"}, d=f"M{x0} {up(axis.reference):.1f}H{x0 + each - 36}")
        for place, column in zip(at, columns, strict=True):
            found.text(place, low + 15, column, "middle")
        found.text(x0 + (each - 36) / 2, low + 32, name, "middle")
        for s, title in enumerate(series):
            marks = row.marks[s * len(columns) : (s + 1) * len(columns)]
            there = [(x, up(mark.value)) for x, mark in zip(at, marks, strict=True) if mark is not None]
            path = "".join(f"{'L' if n else 'M'}{x:.1f} {y:.1f}" for n, (x, y) in enumerate(there))
            if path:
                found.put("path", **{"class": f"line {STYLES[s]}"}, d=path)
            for x, mark, column in zip(at, marks, columns, strict=True):
                if mark is not None:
                    found.shape(s, x, up(mark.value), mark.filled, f"{row.label}, {title}, {column}: {mark.said}")
    return found.finished()


class _Drawing:
    def __init__(self, wide: float, high: float, label: str) -> None:
        self.wide = wide
        self._start = (
            f'<svg class="drawn" role="img" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" height="{high:g}" '
            f'aria-label="{escape(label)}">'
        )
        self._parts: list[str] = []

    def put(self, name: str, inner: str = "", /, **attributes: str | float) -> None:
        said = "".join(f' {key}="{escape(str(value))}"' for key, value in attributes.items())
        self._parts.append(f"<{name}{said}>{inner}</{name}>" if inner else f"<{name}{said}/>")

    def text(self, x: float, y: float, text: str, anchor: str, kind: str = "") -> None:
        said = {"class": kind} if kind else {}
        self.put("text", escape(text), x=f"{x:.1f}", y=f"{y:.1f}", **{"text-anchor": anchor}, **said)

    def mark(self, across, y: float, mark: Mark, series: int, said: str) -> None:
        if mark.low is not None and mark.high is not None:
            bar = f"M{across(mark.low):.1f} {y:.1f}H{across(mark.high):.1f}"
            self.put("path", **{"class": f"bar {STYLES[series]}"}, d=bar)
        self.shape(series, across(mark.value), y, mark.filled, said)

    def shape(self, series: int, x: float, y: float, filled: bool, said: str) -> None:
        kind = f"mark {STYLES[series]}{'' if filled else ' hollow'}"
        self.put("path", f"<title>{escape(said)}</title>" if said else "", **{"class": kind}, d=_outline(series, x, y))

    def legend(self, series: Sequence[str], left: float) -> None:
        for (x, y), (k, name) in zip(_legend(series, self.wide, left), enumerate(series), strict=True):
            self.shape(k, x, y - 4, True, "")
            self.text(x + 10, y, name, "start")

    def finished(self) -> str:
        return self._start + "".join(self._parts) + "</svg>"


def _legend(series: Sequence[str], wide: float, left: float) -> list[tuple[float, float]]:
    """Where each entry stands, in lines that are not wider than the picture."""
    places, x, y = [], left + 6, 14.0
    for name in series:
        room = 34 + 6.2 * len(name)
        if x > left + 6 and x + room > wide:
            x, y = left + 6, y + 17
        places.append((x, y))
        x += room
    return places


def _legend_height(series: Sequence[str], wide: float, left: float) -> float:
    return 10 + 17 * len({y for _, y in _legend(series, wide, left)})


def _scale(axis: Axis, start: float, stop: float):
    def place(value: float) -> float:
        share = (min(max(value, axis.low), axis.high) - axis.low) / (axis.high - axis.low or 1)
        return start + (stop - start) * share

    return place


def _outline(series: int, x: float, y: float) -> str:
    """A disc, a square, a triangle up, a diamond, a triangle down, a cross."""
    if series == 0:
        return f"M{x - 4.5:.1f} {y:.1f}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0Z"
    if series == 5:
        return f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    corners = {
        1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        2: ((0, -5), (5, 4), (-5, 4)),
        3: ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
        4: ((0, 5), (5, -4), (-5, -4)),
    }[series]
    return "M" + "L".join(f"{x + dx:.1f} {y + dy:.1f}" for dx, dy in corners) + "Z"


def _short(value: float) -> str:
    return f"{value:g}".replace("-", "\u2212")
