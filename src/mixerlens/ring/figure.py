"""The waves of a few mixers as one picture, for a slide or a page: it draws what `survey` measured, no more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mixerlens.errors import InputError
from mixerlens.figures import BLUE, ORANGE, drawing
from mixerlens.ring.survey import Survey
from mixerlens.ring.waves import LAP, Waves

__all__ = ["draw"]


def draw(surveys: Mapping[str, Survey], path: str | Path, *, rows: int = 6, unit: str = "token") -> Path:
    """One row a mixer, at most ``rows``: a pulse on the ring, the same in a random order, its phases, the nodes that
    carry it, its frequencies around the ring, and what the ring remembers.

    Of each mixer the ring with the middle lap is shown; ``unit`` is what its
    sequence is made of. Raises InputError without matplotlib, without a mixer,
    or for a path that is no .png, .pdf or .svg or cannot be written.
    """
    if not surveys:
        raise InputError("there is no mixer with waves to draw")
    shown = list(surveys.items())[:rows]
    with drawing(path, len(shown), 6, (17, 2.6 * len(shown) + 0.5)) as (figure, axes):
        for line, (name, found) in zip(axes, shown, strict=True):
            _row(figure, line, name, found, unit)
    return Path(path)


def _row(figure: Any, line: Any, name: str, found: Survey, unit: str) -> None:
    ring = _middle(found.waves)
    w, d, nodes = found.waves, found.waves.dispersion, found.ring.nodes
    lap = float(d.lap_time[ring])
    laps = torch.arange(len(w.tokens)) / LAP if math.isfinite(lap) else w.tokens[:, ring]
    scale = "laps" if math.isfinite(lap) else f"{unit}s"
    pictures = ((w.space_time, f"{name}, head {found.heads[ring]}"), (w.shuffled, "the same, modes in a random order"))
    for axis, (picture, title) in zip(line, pictures, strict=False):
        size = picture[:, ring]
        shown = (size / size.amax(-1, keepdim=True).clamp(min=1e-300)).T
        image = axis.imshow(
            shown, aspect="auto", origin="lower", cmap="cividis", vmin=0, vmax=1, interpolation="nearest",
            extent=(0, float(laps[-1]), -0.5, nodes - 0.5),
        )  # fmt: skip
        axis.set(title=title, xlabel=f"time, {scale}", ylabel="node")
    figure.colorbar(image, ax=line[1], label="|z|, share of its peak")
    size = w.space_time[:, ring]
    turned = line[2].imshow(
        w.phase[:, ring].T, aspect="auto", origin="lower", cmap="twilight", vmin=-math.pi, vmax=math.pi,
        interpolation="nearest", extent=(0, float(laps[-1]), -0.5, nodes - 0.5),
        alpha=(size / size.amax(-1, keepdim=True).clamp(min=1e-300)).T.sqrt().numpy(),
    )  # fmt: skip
    line[2].set(title="its phases, faint where it is not", xlabel=f"time, {scale}", ylabel="node")
    figure.colorbar(turned, ax=line[2], label="arg z, radians")
    top = float(torch.maximum(w.participation, w.null)[:, ring].max())
    line[3].plot(laps, w.participation[:, ring], color=BLUE, label="sorted")
    line[3].plot(laps, w.null[:, ring], color=ORANGE, linestyle="--", label=f"mean of {w.nulls} random orders")
    line[3].set(
        title="nodes that carry the pulse", xlabel=f"time, {scale}", ylabel="participation ratio", ylim=(0, 1.4 * top)
    )
    line[3].legend(frameon=False, loc="upper left")
    line[4].plot(d.frequency[ring], ".", color=BLUE, markersize=3)
    line[4].axhspan(-math.pi, math.pi, color="#eeeeee", zorder=0)
    speed = f"lap {lap:,.0f} {unit}s, {float(d.lap_decay[ring]):.2g} left" if math.isfinite(lap) else "nothing moves"
    line[4].set(title=speed, xlabel="mode around the ring", ylabel=f"frequency, rad / {unit}")
    if found.history is None:
        line[5].text(
            0.5, 0.5, f"the network changes\nwith the {unit}", ha="center", va="center", transform=line[5].transAxes
        )
        line[5].set_axis_off()
        return
    h = found.history
    line[5].plot(h.linear[:, ring], color=BLUE, label="all nodes, best reading")
    line[5].plot(h.at_node[:, ring], color=ORANGE, linestyle="--", label="the node its wave is at")
    line[5].set(title="error of reading the past", xlabel=f"lag, {unit}s", ylabel="share of variance", ylim=(0, 1.4))
    line[5].legend(frameon=False, loc="upper left")


def _middle(found: Waves) -> int:
    """The ring with the median lap, or, where nothing moves, with the median spread at the end."""
    lap = found.dispersion.lap_time
    values = lap if bool(lap.isfinite().any()) else found.participation[-1]
    return int(values.sort().indices[(len(values) - 1) // 2])
