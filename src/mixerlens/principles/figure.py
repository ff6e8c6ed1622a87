"""The principles of a model as one picture, a panel each: it draws what `pictures` holds, no more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from mixerlens.errors import InputError
from mixerlens.figures import BLUE, ORANGE, drawing
from mixerlens.principles.model import ModelPrinciples
from mixerlens.principles.pictures import FEW, Axis, Dots, Lines, missing, picture
from mixerlens.principles.report import MEASURES
from mixerlens.principles.words import name_of

__all__ = ["draw"]

COLUMNS = 3
WIDTH = 4.4  # of a panel, inches
LETTERS = 15  # an inch of the heading holds
# colour, dashes, and how marks are filled: each alone tells the kinds apart
STYLES: dict[str, tuple[str, Any, Any]] = {
    "attention": (BLUE, "-", "full"),
    "recurrent": (ORANGE, "--", "none"),
    "convolution": ("#009e73", "-.", "left"),
}
PLAIN: tuple[str, Any, Any] = (BLUE, "-", "full")
GREY = "#666666"
DECADES = 9  # that an axis shows below its highest number
SMALL = 6.5
HOW = (
    "Line: the median of a layer's heads, the layer's number at its end; band: from the lowest head to the highest. "
    "Mark: one head."
)


def draw(found: ModelPrinciples, path: str | Path) -> Path:
    """One panel a measured principle, a line or a column a mixer; colour, dashes and filling say its kind.

    Raises InputError without matplotlib, without anything to draw, or for a path that is no .png, .pdf or .svg or
    cannot be written.
    """
    shown = [(name, one) for name in MEASURES if (one := picture(name, found)) is not None]
    if not shown:
        raise InputError("there is nothing to draw: no measure gave a number")
    columns = min(COLUMNS, len(shown))
    rows, heading = -(-len(shown) // columns), _heading(found, columns)
    with drawing(path, rows, columns, (WIDTH * columns, 3.2 * rows + 0.15 * len(heading) + 0.3)) as (figure, axes):
        figure.suptitle("\n".join(heading), x=0.01, ha="left", fontsize=8, parse_math=False)
        _kinds(figure, found)
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        for axis, (name, one) in zip(axes.flat, shown, strict=False):
            title = f"{_title(name, found)}: {one.title[0].lower()}{one.title[1:]}"
            names = _lines(axis, one) if isinstance(one, Lines) else _dots(axis, one)
            if names:  # above the panel, where no line or mark can be
                axis.legend(
                    loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=names, frameon=False, fontsize=SMALL,
                    borderaxespad=0.1, handletextpad=0.3, columnspacing=1.0, handlelength=1.6,
                )  # fmt: skip
            axis.set_title(title, fontsize=8, loc="left", pad=17 if names else 6)
    return Path(path)


def _title(name: str, found: ModelPrinciples) -> str:
    return name_of(next(m.report[name] for m in found if name in m.report.records))


def _heading(found: ModelPrinciples, columns: int) -> list[str]:
    """What was measured, on what, how to read the picture, and which measures have none."""
    seeded = "" if "seed" in found.note else f", seed {found.seed}"
    told = [f"Principles of {found.source} on {found.tokens} {found.unit}s{seeded}"]
    told += [f"{found.note[0].upper()}{found.note[1:]}." if found.note else "", HOW]
    told += [f"Not drawn: {_title(name, found)}, as {why}." for name, why in missing(found).items()]
    return [line for text in told if text for line in wrap(text, int(LETTERS * WIDTH * columns))]


def _kinds(figure: Any, found: ModelPrinciples) -> None:
    from matplotlib.lines import Line2D

    kinds = [kind for kind in STYLES if any(m.kind == kind for m in found)]
    marks = [
        Line2D([], [], color=colour, linestyle=dashes, marker="o", fillstyle=fill, markersize=4, label=kind)
        for kind in kinds
        for colour, dashes, fill in [STYLES[kind]]
    ]
    if marks:
        figure.legend(handles=marks, loc="outside lower left", ncols=len(marks), frameon=False, fontsize=8)


def _lines(axis: Any, one: Lines) -> int:
    places = sorted({x for line in one.lines for x in line.x})
    few = places if len(places) <= FEW else None
    ends = []
    for line in one.lines:
        colour, dashes, fill = STYLES.get(line.kind, PLAIN)
        low, middle, high = ([math.nan if v is None else v for v in x] for x in (line.low, line.middle, line.high))
        if len(line.x) == 1:
            axis.vlines(line.x, low, high, color=colour, alpha=0.3, linewidth=4)
        axis.fill_between(line.x, low, high, color=colour, alpha=0.12, linewidth=0)
        mark = "o" if few or len(line.x) == 1 else ""
        axis.plot(line.x, middle, color=colour, linestyle=dashes, linewidth=1.2, marker=mark, fillstyle=fill, ms=3)
        known = [k for k, v in enumerate(middle) if v == v]
        if known:
            ends.append((line.x[known[-1]], middle[known[-1]], line.layer))
    if one.reference is not None:
        name, x, y = one.reference
        axis.plot(x, y, color=GREY, linestyle=":", linewidth=1.2, label=name, marker="_" if x[0] == x[-1] else "")
    _scale(axis, "x", one.across, few)
    _scale(axis, "y", one.up, None)
    _name_ends(axis, ends)
    return int(one.reference is not None)


def _name_ends(axis: Any, ends: list[tuple[float, float, int]]) -> None:
    """The number of its layer at the end of each line, or at the edge below which it is cut; those that would lie on
    each other are written together."""
    bottom, top = axis.get_ylim()
    inside = [(x, min(max(y, bottom), top), layer) for x, y, layer in ends]
    placed = sorted((*axis.transData.transform((x, y)), x, y, layer) for x, y, layer in inside)
    groups: list[list[Any]] = []
    for end in sorted(placed, key=lambda p: (p[0], p[1])):
        last = groups[-1][-1] if groups else None
        if last is not None and end[0] == last[0] and end[1] - last[1] < 1.3 * SMALL:
            groups[-1].append(end)
        else:
            groups.append([end])
    for group in groups:
        *_, x, y, _ = group[len(group) // 2]
        told = ", ".join(str(layer) for layer in sorted({end[-1] for end in group}))
        at = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        axis.annotate(told, (x, y), fontsize=SMALL, **at)


def _dots(axis: Any, one: Dots) -> int:
    width = 0.8 / len(one.groups)
    for g, (group, mark) in enumerate(zip(one.groups, "os^Dv", strict=False)):
        for k, (_, kind, groups) in enumerate(one.columns):
            place = k + width * (g - (len(one.groups) - 1) / 2)
            colour, _, fill = STYLES.get(kind, PLAIN)
            axis.plot(
                [place] * len(groups[g]), groups[g], mark, color=colour, fillstyle=fill, ms=4, alpha=0.7, mew=0.7,
                clip_on=False,
            )  # fmt: skip
        axis.plot([], [], mark, color=GREY, markersize=4, label=group)
    count = len(one.columns)
    axis.set_xlim(-0.5, count - 0.5)
    for k in range(1, count):
        axis.axvline(k - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    stride = -(-count // 16)
    axis.set_xticks(range(0, count, stride), [str(layer) for layer, *_ in one.columns[::stride]])
    axis.set_xlabel("layer")
    highest = max((v for *_, groups in one.columns for values in groups for v in values), default=0.0)
    lowest = min((v for *_, groups in one.columns for values in groups for v in values), default=0.0)
    top = highest if highest > 0 else 1.0
    axis.set_ylim(min(1.04 * lowest, -0.03 * top), 1.04 * top)
    _scale(axis, "y", one.up, None)
    return len(one.groups)


def _scale(axis: Any, which: str, how: Axis, places: Sequence[float] | None) -> None:
    """places: of the few points measured, where the ticks are then."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set(**{f"{which}label": how.name})
    if how.whole is not None:
        low, high = how.whole
        edge = 0.04 * (high - low)
        axis.set(**{f"{which}lim": (low - edge, high + edge)})
    if not how.log:
        return
    if how.from_zero:
        (axis.set_xscale if which == "x" else axis.set_yscale)("function", functions=(_log1p, _expm1))
    else:
        axis.set(**{f"{which}scale": "log"})
    of = getattr(axis, f"{which}axis")
    low, high = of.get_view_interval()
    if not how.from_zero and low < high / 10**DECADES:
        low = high / 10**DECADES
        axis.set(**{f"{which}lim": (low, high)})
        of.set_label_text(f"{how.name}\ncut at {low:.0e}")
    ticks = places or (_from_zero(high) if how.from_zero else _ticks(low, high))
    of.set_major_locator(FixedLocator([v for v in ticks if low <= v <= high]))
    of.set_minor_locator(NullLocator())
    of.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def _log1p(x: Any) -> Any:
    import numpy as np

    return np.log1p(np.maximum(x, -0.5))


def _expm1(x: Any) -> Any:
    import numpy as np

    return np.expm1(x)


def _from_zero(high: float) -> list[float]:
    decades = math.ceil(math.log10(high + 1)) + 1
    return [0.0, *(s * 10.0**e for e in range(decades) for s in (1, 3))]


def _ticks(low: float, high: float) -> list[float]:
    """Three or more round numbers between two positive ones."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, -(-(last - first) // 6))
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        if every > 1 and len(steps) > 1:
            break
        found = [s * 10.0**e for e in range(first, last + 1, every) for s in steps]
        found = [v for v in found if low <= v <= high]
        if len(found) >= 3:
            return found
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
