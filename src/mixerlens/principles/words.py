"""A principle in a few characters: its value over the heads of a mixer, and which of its conditions hold where."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from mixerlens.measures.record import plain
from mixerlens.principles.eigenvalues import ENDS
from mixerlens.principles.model import MixerPrinciples
from mixerlens.principles.parts import NO_NUMBER, NO_SHARE, percent, spread_text
from mixerlens.principles.readout import at_least
from mixerlens.principles.record import Principle

NONE = "-"
CENTRED = ENDS.index("centred")
MIDDLE = 1e-6  # the tolerance of the state rank that stands for all
FOLDS = {"folded": "eta folded into A_t", "lifted": "lifted, eta folded into A_t", "ratio": "ratios of eta"}


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
    least = "at least " if at_least(r.lower_bound, r.ranks[:, -1, k], r.finite) else ""
    return f"rank {least}{spread_text(r.ranks[:, -1, k])} at {r.tolerances[k]:g}; {size}"


def middle_tolerance(tolerances: Sequence[float]) -> int:
    """Which of the tolerances stands for all: the one nearest to 1e-6, by its logarithm."""
    return min(range(len(tolerances)), key=lambda k: abs(math.log10(max(tolerances[k], 1e-300) / MIDDLE)))


def _selectivity(r: Any) -> str:
    if r.zeros is None:
        return ""
    nearest = min(range(len(r.factors)), key=lambda k: abs(r.factors[k] - 1))
    zeroes = (f"zeroes {{}} of {r.keys} keys", spread_text(r.zeroable))
    return _joined(zeroes, ("{} of the mass on one", percent(r.share[:, nearest])))


def _position(r: Any) -> str:
    told = spread_text(r.largest, least=1e-12)
    told = "changes nothing" if told == "0" else f"changes {told} of the output"
    return told + ("; inert" if bool(r.inert.all()) else "")


def _structure(r: Any) -> str:
    if not r.tokens:
        return ""
    return _joined(
        ("commutators {} of the largest possible", spread_text(r.commutator_largest, least=1e-12)),
        ("{} of eigenvalues turn", percent(r.turning)),
        ("a negative one at {} of tokens", percent(r.negative)),
    )


def _scaling(r: Any) -> str:
    return _joined(("Var q.k like n^{}", spread_text(r.slope, 2)), ("mean {} deviations", spread_text(r.ratio, 2)))


def _normalization(r: Any) -> str:
    power = spread_text(r.power, 2, least=5e-4)
    return _joined(
        ("G(T) {}", spread_text(r.mass[:, -1])),
        ("does not grow" if power == "0" else "grows like T^{}", power),
        ("|A_t| {}", spread_text(r.norm)),
    )


def _retention(r: Any) -> str:
    return _joined(("{} nats a token", spread_text(r.rate, 2)), ("gradient at most {}", spread_text(r.norm_high)))


def _dsf(r: Any) -> str:
    if r.kind == "as it is":
        return "nothing to fold"
    return f"{FOLDS[r.kind]}; eigenvalues enlarged at {percent(r.beyond)} of tokens"


def _eigenvalues(r: Any) -> str:
    if r.silent:
        return ""
    near = ("near 1: {}", percent(r.near_one))
    if r.gauge is not None:
        near = (f"near 1: computed {{}}, centred {percent(r.gauge['near_one'][:, CENTRED])}", near[1])
    return _joined(near, ("near 0: {} of eigenvalues", percent(r.near_zero)))


def _joined(*parts: tuple[str, str]) -> str:
    """Texts with their numbers; a part whose number does not exist for this mixer is left out."""
    return "; ".join(text.format(told) for text, told in parts if told not in (NO_NUMBER, NO_SHARE))


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
    parts = {"mixer": mixer.report.mixer, "heads": list(mixer.report.heads)}
    return mixer.described | parts | {"principles": records, "refused": mixer.report.refused}


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
