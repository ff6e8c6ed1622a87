"""Pictures of the explicit operator's study, from the same stored numbers as its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..report.svg import Axis, Mark, Row, lines, point_rows
from . import rings, seen
from .intervals import wilson
from .parts import DEGREES
from .verdicts import LINEAR_READINGS, verdicts
from .words import title

__all__ = ["figures"]

SHOWN = ("gelu only", "full", "two layers", "identity", "identity, last step", "raw sequence")


def figures(document: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """(SVG, caption) by the heading of the page below which each stands."""
    tables, found = document["tables"], {}
    if seen.TABLE in tables:
        found["What each order sees, without training"] = [_orders(tables[seen.TABLE])]
    if "sets" in tables:
        if verdicts(tables["sets"]):
            found["Where the claim holds"] = [_differences(tables["sets"], document)]
        found["Trained classifiers and their controls"] = [_accuracies(tables["sets"], document)]
        found["Parts of the trained model"] = _parts(tables["sets"], document)
    if rings.TABLE in tables:
        found["Are trained rings still waves, and does it matter?"] = [_rings(tables[rings.TABLE], document)]
    return found


def _orders(rows: Mapping[str, Any]) -> tuple[str, str]:
    shown = []
    for task, said in seen.TASKS.items():
        runs = rows.get(task, {}).get("random S4D-Lin", {}).values()
        shown.append(
            Row(said.split(", mean")[0], [_mark([run[name]["score"] for run in runs]) for name in seen.FEATURES])
        )
    axis = Axis("test accuracy, %", 40, 100, reference=50)
    label = "Accuracy by order for classes that differ in their autocorrelation and in their mean."
    return point_rows(label, seen.FEATURES, shown, axis), (
        "Mean over seeds, with the lowest and highest seed. Dashed: chance."
    )


def _differences(rows: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, str]:
    judged = verdicts(dict(rows))
    keys = [f"best - {name}" for name in LINEAR_READINGS]
    shown, ends = [], [0.0]
    for each in judged:
        marks: list[Mark | None] = []
        for key in keys:
            found = each.differences[key]
            if found is None:
                marks.append(None)
                continue
            value, low, high = (100 * x for x in (found.mean, found.low, found.high))
            ends += [low, high]
            said = f"{value:+.1f} points, 95 % {low:+.1f} to {high:+.1f}, {each.says(key)} after Holm"
            marks.append(Mark(value, low, high, said, each.says(key) != "no difference"))
        shown.append(Row(title(each.data, document), marks))
    axis = Axis("difference of test accuracy, points", min(ends) - 2, max(ends) + 2, reference=0)
    label = "Best interacting model less each linear reading, by set, with 95 % intervals."
    series = [f"less {name}" for name in LINEAR_READINGS]
    return point_rows(label, series, shown, axis), (
        "The interacting model that the validation part chose, less each linear reading that was run; bars: 95 %, each "
        "by itself. Filled: there at 5 % after Holm's correction over the sets; hollow: not."
    )


def _accuracies(rows: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, str]:
    shown = [
        Row(title(name, document), [_mark(_scores(rows[name].get(variant, {}))) for variant in SHOWN])
        for name in document["sets"]
        if name in rows
    ]
    axis = Axis("test accuracy, %", 0, 100)
    label = "Test accuracy of interacting models and of linear readings, by set."
    return point_rows(label, SHOWN, shown, axis), (
        "Mean over seeds, with the lowest and highest seed; of a single run Wilson's 95 % interval. The first three "
        "have interactions, the last three are linear in the input. The table has every variant."
    )


def _parts(rows: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, str]]:
    columns = [str(degree) for degree in DEGREES] + ["all"]
    keys = [f"up to {degree}" for degree in DEGREES] + ["all"]
    series = (("full", "mean"), ("full", "realised"), ("gelu only", "realised"))
    names = ("full, mean gain", "full, gain as it was", "gelu only")
    shown = []
    for data in document["sets"]:
        marks: list[Mark | None] = []
        for variant, gain in series:
            runs = [
                run["parts"][gain]
                for run in rows.get(data, {}).get(variant, {}).values()
                if gain in run.get("parts", {})
            ]
            marks += [_mark([run[key]["score"] for run in runs]) for key in keys]
        if any(marks):
            shown.append(Row(title(data, document), marks))
    if not shown:
        return []
    axis = Axis("", 0, 100)
    label = "Test accuracy when only interactions of up to p waves are kept, by set."
    return [
        (
            lines(label, names, columns, shown, axis, "waves kept together, at most"),
            "Test accuracy in %, mean over seeds, when only interactions of up to so many waves are left of the "
            "activation; 1: waves alone.",
        )
    ]


def _rings(rows: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, str]:
    columns = [f"{rate:g}" for rate in rings.RATES]
    most, shown = 1.0, []
    for data, variants in rows.items():
        marks: list[Mark | None] = []
        for key in ("half", "half_null"):
            for column in columns:
                runs = variants.get(f"rate {column}", {}).values()
                values = [value for run in runs if (value := run["trained"][key]) is not None]
                mean = sum(values) / len(values) if values else None
                most = max([most, *values])
                marks.append(None if mean is None else Mark(mean, said=f"{mean:.3g} nodes, {len(values)} seeds"))
        shown.append(Row(title(data, document), marks))
    axis = Axis("", 0, most * 1.05)
    label = "Nodes that carry a pulse after half a lap of trained rings, by learning rate, beside random orders."
    series = ("modes sorted by frequency", "in random orders")
    return lines(label, series, columns, shown, axis, "learning rate of dt and A"), (
        "Nodes that carry a pulse after half a lap of the trained rings: mean over seeds of the median over rings. "
        "Before training about one node carries it."
    )


def _scores(runs: Mapping[str, Any]) -> list[Sequence[int]]:
    return [run["test"]["score"] for run in runs.values()]


def _mark(scores: Sequence[Sequence[int]]) -> Mark | None:
    """Mean over seeds with its range; of one run Wilson's interval."""
    if not scores:
        return None
    each = [100 * correct / total for correct, total in scores]
    mean = sum(each) / len(each)
    if len(each) > 1:
        return Mark(mean, min(each), max(each), f"{mean:.1f} %, {len(each)} seeds, {min(each):.1f} to {max(each):.1f}")
    low, high = (100 * x for x in wilson(*scores[0]))
    return Mark(mean, low, high, f"{mean:.1f} %, one run, 95 % {low:.1f} to {high:.1f}")
