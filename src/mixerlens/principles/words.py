"""A principle in a few characters: its value over the heads of a mixer, and which of its conditions hold where."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from mixerlens.measures.record import plain
from mixerlens.principles.eigenvalues import ENDS
from mixerlens.principles.model import MixerPrinciples
from mixerlens.principles.parts import spread_text
from mixerlens.principles.record import Principle
from mixerlens.principles.retention import percent

NONE = "-"
CENTRED = ENDS.index("centred")
MIDDLE = 1e-6  # the tolerance of the state rank that stands for all


def value(name: str, record: Any) -> str:
    """What a record of ``MEASURES`` found, over the heads, with its unit. Raises KeyError for an unknown name."""
    return VALUES[name](record) or NONE


def found(name: str, mixer: MixerPrinciples) -> tuple[str, str]:
    """Value and meaning of one measure of a mixer; where it was refused or says nothing, why."""
    record = mixer.report.records.get(name)
    if record is None:
        return "refused", mixer.report.refused.get(name, "")
    return value(name, record), getattr(record, "silent", "") or getattr(record, "meaning", "")


def _readout(r: Any) -> str:
    if not r.lengths:
        return ""
    k = middle_tolerance(r.tolerances)
    size = "no finite state" if r.finite is None else f"state {r.finite}"
    return f"rank {spread_text(r.ranks[:, -1, k])} at {r.tolerances[k]:g}; {size}"


def middle_tolerance(tolerances: Sequence[float]) -> int:
    """Which of the tolerances stands for all: the one nearest to 1e-6, by its logarithm."""
    return min(range(len(tolerances)), key=lambda k: abs(math.log10(max(tolerances[k], 1e-300) / MIDDLE)))


def _selectivity(r: Any) -> str:
    if r.zeros is None:
        return ""
    nearest = min(range(len(r.factors)), key=lambda k: abs(r.factors[k] - 1))
    return f"zeroes {spread_text(r.zeroable)} of {r.keys} keys; {percent(r.share[:, nearest])} of the mass on one"


def _position(r: Any) -> str:
    return f"{spread_text(r.largest, least=1e-12)} of the output" + ("; inert" if bool(r.inert.all()) else "")


def _structure(r: Any) -> str:
    if not r.tokens:
        return ""
    return (
        f"commutator {spread_text(r.commutator_largest, least=1e-12)}; turns {percent(r.turning)}; "
        f"negative {percent(r.negative)}"
    )


def _scaling(r: Any) -> str:
    power = "" if bool(r.slope.isnan().all()) else f"Var q.k like n^{spread_text(r.slope, 2)}; "
    return f"{power}mean {spread_text(r.ratio, 2)} deviations"


def _normalization(r: Any) -> str:
    power = spread_text(r.power, 2, least=5e-4)
    return f"G {spread_text(r.mass[:, -1])}; grows like T^{power}; |A_t| {spread_text(r.norm)}"


def _retention(r: Any) -> str:
    return f"{spread_text(r.rate, 2)} nats a token; gradient at most {spread_text(r.norm_high)}"


def _dsf(r: Any) -> str:
    return "" if r.kind == "as it is" else f"{r.kind}; enlarged at {percent(r.beyond)} of the tokens"


def _eigenvalues(r: Any) -> str:
    if r.silent:
        return ""
    near = f"near 1: {percent(r.near_one)}"
    if r.gauge is not None:
        near = f"near 1: computed {percent(r.near_one)}, centred {percent(r.gauge['near_one'][:, CENTRED])}"
    return f"{near}; near 0: {percent(r.near_zero)}"


VALUES: dict[str, Callable[[Any], str]] = {
    "readout": _readout,
    "selectivity": _selectivity,
    "position": _position,
    "structure": _structure,
    "scaling": _scaling,
    "normalization": _normalization,
    "retention": _retention,
    "dsf": _dsf,
    "eigenvalues": _eigenvalues,
}


def brief(mixer: MixerPrinciples) -> dict[str, Any]:
    """Of one mixer what the tables show, JSON-able: value, meaning and conditions of each measure, and the refused."""
    records = {
        name: {
            "value": value(name, record),
            "headline": plain(getattr(record, record.headline)),
            "meaning": record.meaning,
            "silent": record.silent,
            "conditions": [condition.to_json() for condition in record.conditions],
        }
        for name, record in cast("dict[str, Principle]", mixer.report.records).items()
    }
    told = {"layer": mixer.layer, "kind": mixer.kind, "family": mixer.family, "of": mixer.of}
    parts = {"mixer": mixer.report.mixer, "heads": list(mixer.report.heads)}
    return told | parts | {"principles": records, "refused": mixer.report.refused}


def truth(record: Any) -> dict[str, Any]:
    """What is true of a principle whatever the mixer, JSON-able."""
    return {
        "principle": record.number,
        "title": record.title,
        "headline": record.headline,
        "wording": record.wording,
        "theorem": record.theorem,
        "counterexamples": [example.to_json() for example in record.counterexamples],
        "sources": list(record.sources),
    }


def name_of(record: Principle) -> str:
    """The title with the number where it is one of the six."""
    return f"{record.number} {record.title}" if record.number else record.title


def conditions(name: str, mixers: Iterable[MixerPrinciples]) -> list[tuple[str, list[tuple[str, str, list[int]]]]]:
    """Each condition with (yes | no | not known, what was found, layers), mixers that agree together."""
    told: dict[str, dict[tuple[str, str], list[int]]] = {}
    for mixer in mixers:
        if name not in mixer.report.records:
            continue
        for condition in mixer.report[name].conditions:
            word = {True: "yes", False: "no", None: "not known"}[condition.holds]
            layers = told.setdefault(condition.text, {}).setdefault((word, condition.found), [])
            layers.append(mixer.layer)
    return [(text, [(word, found, layers) for (word, found), layers in each.items()]) for text, each in told.items()]
