"""The principles as a part of the page: a panel each with its figure, what is true of it, and the case against it.

`principles` measures the heads that the page has cards for; this packs the figures and says where conditions hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from mixerlens.principles.model import MixerPrinciples, ModelPrinciples, left_out
from mixerlens.principles.pictures import Lines, missing, picture
from mixerlens.principles.record import Counterexample
from mixerlens.principles.report import MEASURES, measure
from mixerlens.principles.words import conditions, name_of
from mixerlens.principles.words import found as of
from mixerlens.report.layers import LayerPlan
from mixerlens.report.words import count, plain_text

# on the page: enough for a figure, and no longer than the rest of the report takes
OPTIONS: dict[str, Any] = {
    "readout": {"longest": 256, "cuts": 1},
    "selectivity": {"trials": 16, "targets": 2},
    "position": {"longest": 256, "permutations": 4},
    "structure": {"most": 32},
    "scaling": {"pairs": 256},
    "retention": {"steps": 8},
}
WORDS = {"yes": "holds", "no": "does not hold", "not known": "not known"}


@dataclass(frozen=True)
class Row:
    """What one mixer shows: layer is the id of its section on the page, name what its tag says."""

    layer: str
    index: int
    kind: str
    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Holds:
    """A condition: ``told`` are (style, word, what was found, where), one for each answer that some layer gives."""

    text: str
    told: list[tuple[str, str, str, str]]


@dataclass(frozen=True)
class PrinciplePanel:
    """One principle. caption: of its figure, empty where it has none; absent: then why, where others have one."""

    name: str
    title: str
    wording: str
    theorem: str
    caption: str
    absent: str
    rows: list[Row]
    holds: list[Holds]
    examples: list[Counterexample]
    sources: str

    @property
    def tally(self) -> str:
        """How many of the conditions hold, in words."""
        answers = [{word for _, word, _, _ in held.told} for held in self.holds]
        count = {word: sum(answer == {word} for answer in answers) for word in WORDS.values()}
        mixed = sum(len(answer) > 1 for answer in answers)
        told = (
            (count["holds"], "holds" if count["holds"] == 1 else "hold"),
            (count["does not hold"], "does not" if count["does not hold"] == 1 else "do not"),
            (count["not known"], "not known"),
            (mixed, "in some layers only"),
        )
        return ", ".join(f"{n} {text}" for n, text in told if n)


@dataclass(frozen=True)
class PrinciplesPart:
    """All panels, which kinds of mixers their lines stand for, and what was looked at."""

    note: str
    kinds: list[str]
    panels: list[PrinciplePanel]
    pictures: dict[str, Any]


def principles_part(plans: list[LayerPlan], unit: str) -> PrinciplesPart | None:
    """Measure the shown heads of every mixer; None for a single token, of which nothing can be said."""
    time = plans[0].dynamics.time
    if time < 2:
        return None
    mixers = [
        MixerPrinciples(
            plan.path, plan.call.layer, plan.call.kind, plan.call.family, plan.dynamics.heads,
            measure(plan.dynamics, heads=plan.shown, **OPTIONS),
            plan.call.title if plan.call.family == "designed" else None,
        )
        for plan in plans
    ]  # fmt: skip
    found = ModelPrinciples("", time, unit, "", tuple(mixers))
    ids = dict(zip((m.path for m in mixers), (plan.id for plan in plans), strict=True))
    pictures = {name: shown for name in MEASURES if (shown := picture(name, found)) is not None}
    panels = [_panel(name, found, ids, pictures.get(name)) for name in MEASURES]
    some = any(len(m.report.heads) < m.of for m in mixers)
    cut = left_out(found.looked_at)
    return PrinciplesPart(
        note=f"Measured on {count(time, unit)} and {'the heads that have cards below' if some else 'all heads'}"
        f"{cut and f'; {cut}'}.",
        kinds=list(dict.fromkeys(m.kind for m in mixers)),
        panels=[panel for panel in panels if panel is not None],
        pictures={name: {"kind": type(shown).__name__} | asdict(shown) for name, shown in pictures.items()},
    )


def _panel(name: str, found: ModelPrinciples, ids: dict[str, str], shown: Any) -> PrinciplePanel | None:
    records = [m.report[name] for m in found if name in m.report.records]
    if not records:
        return None

    def said(text: str) -> str:
        return plain_text(text).replace("token", found.unit)

    rows = [
        Row(ids[m.path], m.layer, m.kind, plain_text(m.specification or m.kind), *map(said, of(name, m))) for m in found
    ]
    first = records[0]
    return PrinciplePanel(
        name=name,
        title=name_of(first),
        wording=said(first.wording),
        theorem=said(first.theorem),
        caption="" if shown is None else _caption(shown),
        absent=said(missing(found).get(name, "")),
        rows=rows,
        holds=_holds(name, found, said),
        examples=[replace(e, against=said(e.against), shows=said(e.shows)) for e in first.counterexamples],
        sources=", ".join(first.sources),
    )


def _caption(shown: Any) -> str:
    if isinstance(shown, Lines):
        dashed = f" Dotted: {shown.reference[0]}." if shown.reference else ""
        return f"{shown.title}. A line a layer: the median of its heads, band from the lowest to the highest.{dashed}"
    return f"{shown.title}. A column a layer, a mark a head."


def _holds(name: str, found: ModelPrinciples, said: Callable[[str], str]) -> list[Holds]:
    style = {"yes": "pass", "no": "fail", "not known": "none"}
    held = []
    for text, each in conditions(name, found):
        several = len(each) > 1
        told = [
            (style[word], WORDS[word], said(seen), _where(layers) if several else "") for word, seen, layers in each
        ]
        held.append(Holds(said(text), told))
    return held


def _where(layers: list[int]) -> str:
    numbers = list(dict.fromkeys(layers))
    return f"layer{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
