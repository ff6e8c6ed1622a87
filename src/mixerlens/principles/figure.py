"""The principles of a model as one picture, a panel each: it draws what `pictures` holds, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mixerlens.errors import InputError
from mixerlens.figures import BLUE, ORANGE, drawing
from mixerlens.principles.model import ModelPrinciples
from mixerlens.principles.pictures import Axis, Dots, Lines, picture
from mixerlens.principles.report import MEASURES
from mixerlens.principles.words import name_of

__all__ = ["draw"]

COLUMNS = 3
STYLES = {"attention": (BLUE, "-"), "recurrent": (ORANGE, "--"), "convolution": ("#009e73", "-.")}
PLAIN = (BLUE, "-")


def draw(found: ModelPrinciples, path: str | Path) -> Path:
    """One panel a measured principle, a line or a column a mixer; colour and dashes say its kind.

    Raises InputError without matplotlib, without anything to draw, or for a path that is no .png, .pdf or .svg or
    cannot be written.
    """
    shown = [(name, one) for name in MEASURES if (one := picture(name, found)) is not None]
    if not shown:
        raise InputError("there is nothing to draw: no measure gave a number")
    rows = -(-len(shown) // COLUMNS)
    with drawing(path, rows, COLUMNS, (13, 3.1 * rows)) as (_, axes):
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        for axis, (name, one) in zip(axes.flat, shown, strict=False):
            record = next(m.report[name] for m in found if name in m.report.records)
            axis.set_title(f"{name_of(record)}: {one.title[0].lower()}{one.title[1:]}", fontsize=8, loc="left")
            if isinstance(one, Lines):
                _lines(axis, one)
            else:
                _dots(axis, one)
    return Path(path)


def _lines(axis: Any, one: Lines) -> None:
    for line in one.lines:
        colour, dashes = STYLES.get(line.kind, PLAIN)
        low, middle, high = ([float("nan") if v is None else v for v in x] for x in (line.low, line.middle, line.high))
        axis.fill_between(line.x, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.plot(line.x, middle, color=colour, linestyle=dashes, linewidth=1.2)
        axis.annotate(f"{line.layer}", (line.x[-1], middle[-1]), xytext=(3, 0), textcoords="offset points", fontsize=6)
    if one.reference is not None:
        name, x, y = one.reference
        axis.plot(x, y, color="#888888", linestyle=":", linewidth=1)
        axis.annotate(name, (x[0], y[0]), fontsize=6, color="#666666", xytext=(2, 3), textcoords="offset points")
    _scale(axis, "x", one.across)
    _scale(axis, "y", one.up)


def _dots(axis: Any, one: Dots) -> None:
    width = 0.8 / len(one.groups)
    for g, (group, mark) in enumerate(zip(one.groups, "os^Dv", strict=False)):
        for k, (_, kind, groups) in enumerate(one.columns):
            place = k + width * (g - (len(one.groups) - 1) / 2)
            colour = STYLES.get(kind, PLAIN)[0]
            axis.plot([place] * len(groups[g]), groups[g], mark, color=colour, markersize=3, alpha=0.6, mew=0)
        axis.plot([], [], mark, color="#666666", markersize=3, label=group)
    axis.legend(frameon=False, fontsize=6, loc="best")
    axis.set_xticks(range(len(one.columns)), [str(layer) for layer, *_ in one.columns])
    axis.set_xlabel("layer")
    if one.up.name.startswith("share"):
        axis.set_ylim(-0.04, 1.04)
    _scale(axis, "y", one.up)


def _scale(axis: Any, which: str, how: Axis) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set(**{f"{which}label": how.name})
    if not how.log:
        return
    axis.set(**{f"{which}scale": "symlog" if how.from_zero else "log"})
    of = getattr(axis, f"{which}axis")
    low, high = of.get_view_interval()
    if not how.from_zero and high < 1e3 * low:  # few decades: also 2 and 5
        of.set_major_locator(LogLocator(subs=(1, 2, 5)))
    of.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    of.set_minor_formatter(NullFormatter())
