"""The picture of a summary: a panel a task, a line a model, its mean accuracy with interval, its seeds, and chance."""

from __future__ import annotations

from pathlib import Path

from ..figures import BLUE, INK, ORANGE, drawing
from .summary import Summary

__all__ = ["draw"]

COLUMNS = 3


def draw(summary: Summary, path: str | Path, titles: dict[str, str] | None = None) -> Path:
    """titles: of the panels, the tasks' names unless given. Raises as `figures.check_drawable`."""
    columns = min(COLUMNS, len(summary.tasks))
    lines = -(-len(summary.tasks) // columns)
    size = (1.4 + 2.9 * columns, lines * (1.1 + 0.28 * len(summary.specs)))
    with drawing(path, lines, columns, size) as (figure, axes):
        panels = list(axes.flat)
        for axis in panels[len(summary.tasks) :]:
            axis.set_axis_off()
        for place, (axis, task) in enumerate(zip(panels, summary.tasks, strict=False)):
            _panel(axis, summary, task)
            axis.set(title=(titles or {}).get(task, task), xlabel="test accuracy", xlim=(-0.03, 1.03))
            axis.set_yticks(range(len(summary.specs)), summary.specs if place % columns == 0 else [])
            axis.set_ylim(len(summary.specs) - 0.5, -0.5)
            axis.grid(axis="x", color="#e6e6e6", linewidth=0.6)
            axis.set_axisbelow(True)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return Path(path)


def _panel(axis, summary: Summary, task: str) -> None:
    found = [(line, cell) for line, spec in enumerate(summary.specs) if (cell := summary.cell(spec, task))]
    if not found:
        return
    where, cells = zip(*found, strict=True)
    means = [cell.mean for cell in cells]
    sides = [[cell.mean - cell.low for cell in cells], [cell.high - cell.mean for cell in cells]]
    axis.axvline(cells[0].chance, color=ORANGE, linestyle="--", linewidth=1, label="chance")
    axis.errorbar(means, where, xerr=sides, fmt="o", color=BLUE, markersize=5, capsize=3, label="mean, 95 % interval")
    seeds = [(share, line + 0.22) for line, cell in found for share in cell.accuracies]
    x, y = zip(*seeds, strict=True)
    axis.plot(x, y, linestyle="none", marker="|", markersize=5, color=INK, alpha=0.7, label="a seed")
