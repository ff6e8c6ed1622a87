"""The views of an operator that the cases ask for, each beside its definition on a dense float64 alpha."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bench.case import OURS, Contender, Inputs, Outputs

PIXELS = 32


def alpha(name: str, arguments: Inputs, time: int, heads: int) -> Tensor:
    """(batch, heads, time, time) in float64: the plain recurrence of that family on every unit vector at once."""
    from mixerlens import references

    units = torch.eye(time, dtype=torch.float64)[None, :, None].expand(-1, -1, heads, -1)
    return references.REGISTRY[name](value=units, **arguments).transpose(1, 2)


def _lags(a: Tensor) -> Tensor:
    place = torch.arange(a.shape[-1], dtype=a.dtype)
    return place[:, None] - place


def _cells(a: Tensor) -> Tensor:
    """Means over PIXELS x PIXELS cells that begin at the tokens floor(p time / PIXELS)."""
    borders = [p * a.shape[-1] // PIXELS for p in range(PIXELS + 1)]
    sizes = [max(hi - lo, 1) for lo, hi in pairwise(borders)]
    columns = torch.stack([a[..., lo : lo + n].mean(-1) for lo, n in zip(borders, sizes, strict=False)], -1)
    return torch.stack([columns[..., lo : lo + n, :].mean(-2) for lo, n in zip(borders, sizes, strict=False)], -2)


def _moments(a: Tensor) -> Tensor:
    return torch.stack([a.sum(-1), (a * _lags(a)).sum(-1)], -1).transpose(1, 2)


# name -> (what is asked of the operator, what it is)
LINEAR: dict[str, tuple[Callable[[Any], Tensor], Callable[[Tensor], Tensor]]] = {
    "row sums": (lambda op: op.row_sum(), lambda a: a.sum(-1).transpose(1, 2)),
    "column sums": (lambda op: op.column_sum(), lambda a: a.sum(-2).transpose(1, 2)),
    "distance moments": (lambda op: op.lag_moments(1), _moments),
    "signed heat map": (lambda op: op.heatmap(PIXELS, signed=True), _cells),
}


def linear(name: str, dynamics: Callable[[Inputs], Any], dense: Callable[[Inputs], Tensor]) -> Contender:
    """One linear view as a contender with its own reference; building the dynamics is part of the time."""
    asked, exact = LINEAR[name]
    return Contender(
        name,
        lambda given: asked(dynamics(given).operator()),
        tolerance=OURS,
        reference=lambda given: (exact(dense(given)),),
    )


def statistics(operator: Any, **how: Any) -> tuple[Any, ...]:
    """Row mass, column mass and mean distance of |alpha| in one pass, as ``reduce`` gives them."""
    from mixerlens.operator.reductions import ColumnMass, MeanDistance, RowMass

    return tuple(operator.reduce(RowMass(), ColumnMass(), MeanDistance(), **how))


def exact_statistics(name: str, arguments: Inputs, time: int, columns: int = 1024) -> Outputs:
    """The same of one head in float64 without its matrix: the plain recurrence on some unit vectors after others.

    What a column holds begins at its own token, so each run begins at its first column's.
    """
    from mixerlens import references

    row, distance, column = (torch.zeros(time, dtype=torch.float64) for _ in range(3))
    for lo in range(0, time, columns):
        later = {k: x[:, lo:] if x.ndim > 2 else x for k, x in arguments.items()}
        units = torch.eye(time - lo, min(columns, time - lo), dtype=torch.float64)[None, :, None]
        mass = references.REGISTRY[name](value=units, **later)[0, :, 0].abs()
        lags = torch.arange(time - lo)[:, None] - torch.arange(mass.shape[1])
        row[lo:] += mass.sum(1)
        distance[lo:] += (mass * lags).sum(1)
        column[lo : lo + mass.shape[1]] = mass.sum(0)
    return tuple(x[None, :, None] for x in (row, column, distance / row))


def dense_statistics(a: Tensor) -> Outputs:
    """The same of a dense alpha (batch, heads, time, time)."""
    mass, row = a.abs(), a.abs().sum(-1)
    distance = (mass * _lags(a)).sum(-1) / row
    return tuple(x.transpose(1, 2) for x in (row, mass.sum(-2), distance))
