"""An explanation as one picture: what the waves do together beside what removing them does. It computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..figures import BLUE, INK, ORANGE, drawing
from .explain import Explanation

__all__ = ["draw"]


def draw(found: Explanation, path: str | Path) -> Path:
    """The interactions 2 A_gg' (A_gg on the diagonal), the synergies of the pairs removed, and a curve a view of the
    segments: linear, interactions, and what removal does.

    Raises InputError without matplotlib, or for a path that is no .png, .pdf or .svg or cannot be written.
    """
    with drawing(path, 1, 3, (14, 4.2)) as (figure, (axes,)):
        maps = _maps(found)
        size = max(float(cells[~cells.isnan()].abs().max()) for cells in maps.values() if not cells.isnan().all())
        image: Any = None
        for axis, (title, cells) in zip(axes, maps.items(), strict=False):
            image = axis.pcolormesh(
                found.pairs.borders, found.pairs.borders, cells, cmap="RdBu_r", vmin=-size, vmax=size
            )
            axis.set(title=title, xlabel="time step", ylabel="time step", aspect="equal")
            axis.invert_yaxis()
        figure.colorbar(image, ax=axes[1], label="logit")
        _curves(axes[2], found)
        figure.suptitle(
            f"{found.pairs.question}: {found.logit:.4g} = {found.pairs.constant:.4g} constant "
            f"+ {float(found.pairs.linear.sum()):.4g} linear + {float(found.pairs.interactions.sum()):.4g} interactions"
        )
    return Path(path)


def _maps(found: Explanation) -> dict[str, Tensor]:
    """Title to (segments, segments); NaN, which stays white, for pairs that were not removed."""
    account = found.pairs.interactions[:-1, :-1]
    both = 2 * account - torch.diag(account.diagonal())
    maps = {"interactions: bookkeeping of this pass": both}
    if found.removal is not None:
        removed = torch.full_like(both, torch.nan)
        g, other = found.removal.pairs.T
        removed[g, other] = removed[other, g] = found.removal.synergy
        maps["synergy when both are removed"] = removed
    return maps


def _curves(axis: Any, found: Explanation) -> None:
    borders = torch.tensor(found.pairs.borders)
    curves = [
        ("linear", found.pairs.linear[:-1], BLUE, "-"),
        ("interactions, a half of each", found.pairs.interactions[:-1].sum(1), ORANGE, "--"),
    ]
    if found.removal is not None:
        curves.append(("what it gives: logit less that without it", found.removal.effects, INK, ":"))
    for name, values, colour, style in curves:
        axis.stairs(values, borders, color=colour, linestyle=style, label=name)
    axis.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axis.set(title="by segment", xlabel="time step", ylabel="logit")
    axis.legend(frameon=False)
