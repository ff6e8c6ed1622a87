"""What a figure of each principle shows, as numbers: lines over a length, or dots a layer. Drawn elsewhere.

Of the heads of a mixer a line shows the median at each place, and a band from the lowest to the highest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixerlens.measures.record import quantiles
from mixerlens.principles.model import MixerPrinciples, ModelPrinciples
from mixerlens.principles.position import NOTHING
from mixerlens.principles.words import middle_tolerance

FEW = 12  # places on an axis up to which each has its tick and its mark


@dataclass(frozen=True)
class Axis:
    """name: with its unit. log: logarithmic; at a lag of 0 too (log(1 + lag)) where ``from_zero``. whole: the least and
    the most that is possible, all of which is shown."""

    name: str
    log: bool = False
    from_zero: bool = False
    whole: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """One mixer: the median of its heads, the lowest and the highest, at each x; None where there is no number."""

    layer: int
    kind: str
    x: tuple[float, ...]
    middle: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class Lines:
    """One line a mixer. reference: a dotted line with its name, or None."""

    title: str
    across: Axis
    up: Axis
    lines: tuple[Line, ...]
    reference: tuple[str, tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True)
class Dots:
    """One column a mixer, in it a mark a head for each of ``groups``, side by side."""

    title: str
    up: Axis
    groups: tuple[str, ...]
    columns: tuple[tuple[int, str, tuple[tuple[float, ...], ...]], ...]  # layer, kind, values a group


def picture(name: str, found: ModelPrinciples) -> Lines | Dots | None:
    """The figure of a measure by its name; None where it has none, or no mixer has numbers."""
    mixers = [m for m in found if name in m.report.records]
    if name in LINES:
        title, across, up, of, reference = LINES[name]
        lines = tuple(line for m in mixers if (line := _line(m, *of(m.report[name]))) is not None)
        if not lines:
            return None
        across = replace(across, name=across.name.format(unit=found.unit))
        return Lines(title, across, up, lines, reference and reference(lines))
    if name not in DOTS:
        return None
    title, up, groups, of = DOTS[name]
    columns = [(m.layer, m.kind, tuple(_known(x) for x in of(m.report[name]))) for m in mixers]
    columns = [column for column in columns if any(column[2])]
    return Dots(title, up, groups, tuple(columns)) if columns else None


def missing(found: ModelPrinciples) -> dict[str, str]:
    """Why a measure that was taken and has a figure elsewhere has none here, by its name."""
    told = {}
    for name in (*LINES, *DOTS):
        records = [m.report[name] for m in found if name in m.report.records]
        if records and picture(name, found) is None:
            told[name] = "; ".join(dict.fromkeys(r.silent for r in records if r.silent)) or "no head has a number"
    return told


def _line(mixer: MixerPrinciples, x: Any, values: Tensor) -> Line | None:
    """values: (heads, x)."""
    if not len(x) or bool(values.isnan().all()):
        return None
    values = values.to(torch.float64)
    low, high = quantiles(values.T, (0.0, 1.0)).unbind(-1)
    middle = values.nanquantile(0.5, 0)  # of two heads between them
    return Line(mixer.layer, mixer.kind, tuple(map(float, x)), *(_numbers(v) for v in (middle, low, high)))


def _numbers(values: Tensor) -> tuple[float | None, ...]:
    return tuple(float(f"{v:.4g}") if v == v and abs(v) != float("inf") else None for v in values.tolist())


def _known(values: Tensor) -> tuple[float, ...]:
    return tuple(v for v in _numbers(values.to(torch.float64)) if v is not None)


def _ranks(r: Any) -> tuple[Any, Tensor]:
    return r.lengths, r.ranks[..., middle_tolerance(r.tolerances)].double()


def _growth(r: Any) -> tuple[Any, Tensor]:
    """Variances over that of the fewest dimensions; heads with other widths than the first are left out."""
    there = [g for g in r.growth if g is not None and g.widths == r.widths]
    rows = [g.variance / g.variance[0] for g in there]
    return r.widths, torch.stack(rows) if rows else torch.full((1, len(r.widths)), torch.nan)


def _over(lines: tuple[Line, ...]) -> tuple[float, float]:
    return min(line.x[0] for line in lines), max(line.x[-1] for line in lines)


def _cap(lines: tuple[Line, ...]) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    low, high = _over(lines)
    return "T / 2, the most to be seen", (low, high), (low / 2, high / 2)


def _proportional(lines: tuple[Line, ...]) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    low, high = _over(lines)
    return "grows like n", (low, high), (1.0, high / low)


def _one(lines: tuple[Line, ...]) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    return "G = 1", _over(lines), (1.0, 1.0)


def _order(x: Tensor) -> Tensor:
    return torch.where(x <= NOTHING, 0, x)


TOKENS = Axis("length T, {unit}s", log=True)
LINES: dict[str, Any] = {
    "readout": (
        "State rank as the text grows", TOKENS, Axis("state rank, numbers a value channel", log=True), _ranks, _cap,
    ),
    "selectivity": (
        "Mass on a row's largest coefficient", Axis("factor on the norm of the queries", log=True),
        Axis("share of mass, 0 to 1", whole=(0, 1)), lambda r: (r.factors, r.share), None,
    ),
    "scaling": (
        "Variance of q.k over part of the dimensions", Axis("dimensions n", log=True),
        Axis("variance over that of the fewest n", log=True), _growth, _proportional,
    ),
    "normalization": (
        "Largest row mass as the text grows", TOKENS, Axis("G(T), output a unit of value", log=True),
        lambda r: (r.lengths, r.mass), _one,
    ),
    "retention": (
        "Size of d y_i / d v_j by distance", Axis("lag i - j, {unit}s", log=True, from_zero=True),
        Axis("rms of |alpha|, output a unit of value", log=True), lambda r: (r.lags, r.rms), None,
    ),
}  # fmt: skip
DOTS: dict[str, Any] = {
    "position": (
        "Change of the last output by another order", Axis("change over the size of the output"),
        ("reversed", "two nearest swapped", "random orders, mean"),
        lambda r: tuple(map(_order, (r.reversed, r.swapped, r.shuffled))),
    ),
    "structure": (
        "How far A_t turns a state", Axis("degrees a token"),
        ("key, median", "key, largest", "phase of an eigenvalue, largest"),
        lambda r: (r.angle_median, r.angle_largest, r.phase) if r.tokens else (),
    ),
    "eigenvalues": (
        "Where the eigenvalues lie", Axis("share of eigenvalues, 0 to 1", whole=(0, 1)),
        ("near 1", "near 0", "growing", "negative", "complex"),
        lambda r: (r.near_one, r.near_zero, r.growing, r.negative, r.complex),
    ),
}  # fmt: skip
