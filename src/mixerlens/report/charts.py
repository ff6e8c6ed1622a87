"""Series over the tokens of one head: the step's eigenvalues or its softmax ratio, and each row's distance."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixerlens.measures import Horizon, Spectrum
from mixerlens.measures.record import plain
from mixerlens.report.words import LOG_RANGE

POINTS = 400


def step_series(s: Spectrum, head: int, time: int, unit: str) -> tuple[dict[str, Any] | None, str | None]:
    """How the step changes from token to token, with its caption; None where it is the same at every token."""
    if s.eta is not None:
        values = {"value": s.eta.ratio[head], "low": s.eta.low[head], "high": s.eta.high[head]}
        series, every = _thinned(values, time, unit)
        beyond = int((s.eta.log_ratio[head].abs() > LOG_RANGE).sum())
        lost = f"; {beyond} lie beyond e^±{LOG_RANGE:.0f} and have no dot" if beyond else ""
        caption = f"η before / η now ({every}, scores as computed; line at 1{lost}). Band: gauge range, {s.eta.gauge}."
        return series | {"through": [1.0], "axis": f"η ratio over {unit}s", "label": f"η ratio over {unit}s."}, caption
    if s.slowest.shape[1] == 1:
        return None, None
    series, every = _thinned({"value": 1 - s.slowest[head]}, time, unit)
    if not any(v is not None and v > 0 for v in series["value"]):
        return None, None
    caption = (
        f"What one step forgets of the slowest direction, 1 − |λ| ({every}; steps that forget nothing have no dot)."
    )
    return series | {"axis": f"1 − |λ| of the slowest over {unit}s", "label": f"1 − |λ| over {unit}s."}, caption


def distance_series(h: Horizon, head: int, unit: str) -> tuple[dict[str, Any], str]:
    """Mean distance of every row, with its caption."""
    series, every = _thinned({"value": h.mean_distance[head]}, h.mean_distance.shape[1], unit)
    caption = f"How many {unit}s back each row reads on average ({every}; rows that read only themselves have no dot)."
    return series | {"axis": f"mean distance over rows, in {unit}s", "label": f"Mean distance over {unit}s."}, caption


def _thinned(values: dict[str, Tensor], time: int, unit: str) -> tuple[dict[str, Any], str]:
    """At most ``POINTS`` evenly spaced tokens, to four digits, and words for which."""
    stride = -(-time // POINTS)
    columns = {
        name: [None if x is None else float(f"{x:.4g}") for x in plain(row[::stride])] for name, row in values.items()
    }
    every = f"every {unit}" if stride == 1 else f"every {_ordinal(stride)} {unit}"
    return {"token": list(range(0, time, stride)), **columns}, every


def _ordinal(n: int) -> str:
    return f"{n}{'th' if 10 <= n % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"
