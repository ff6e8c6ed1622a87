"""What the six principles have in common: a measurement with its meaning, its theorem and the case against it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from mixerlens.measures.record import Record


@dataclass(frozen=True)
class Condition:
    """A condition of a theorem, and whether it holds for the mixer measured: True, False, None where it is not known.

    found: what was seen here that decides it.
    """

    text: str
    holds: bool | None
    found: str

    def to_json(self) -> dict[str, Any]:
        return {"condition": self.text, "holds": self.holds, "found": self.found}


@dataclass(frozen=True)
class Counterexample:
    """A case against the textbook wording, as Python that runs on the public names alone.

    code: assigns what it finds to names, and asserts what it shows. shows: that finding in one sentence.
    """

    against: str
    shows: str
    code: str

    def run(self) -> dict[str, Any]:
        """Execute the code; the names it leaves behind. Raises AssertionError where it does not show what it says."""
        names: dict[str, Any] = {}
        exec(self.code, names)  # our own text, never a user's
        names.pop("__builtins__")
        return names

    def to_json(self) -> dict[str, str]:
        return {"against": self.against, "shows": self.shows, "code": self.code}


@dataclass(frozen=True, eq=False, kw_only=True)
class Principle(Record):
    """A principle measured on one mixer. The fields of a kind are its numbers, heads first; ``labels`` and ``units``
    say what they are; None where a number does not exist for this mixer.

    meaning: what the numbers say, in one or two sentences. conditions: of the theorem.
    silent: why the measure says nothing (or only the trivial) about this mixer; empty where it does.

    Class texts: ``number`` and ``title`` of the principle, the ``wording`` of the literature, the ``theorem`` as it is
    true, its ``sources``, ``headline`` (the field that sums it up) and ``counterexamples``.
    """

    meaning: str
    conditions: tuple[Condition, ...] = ()
    silent: str = ""

    number: ClassVar[int]
    title: ClassVar[str]
    wording: ClassVar[str]
    theorem: ClassVar[str]
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2510.09389",)
    headline: ClassVar[str]
    counterexamples: ClassVar[tuple[Counterexample, ...]] = ()

    @property
    def numbers(self) -> dict[str, Any]:
        """The measured fields by name."""
        shared = {f.name for f in fields(Principle)}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in shared}

    def to_json(self) -> dict[str, Any]:
        """Numbers with labels and units; texts, conditions and counter-examples beside them."""
        return self._described(self.numbers) | {
            "principle": self.number,
            "title": self.title,
            "headline": self.headline,
            "meaning": self.meaning,
            "silent": self.silent,
            "wording": self.wording,
            "theorem": self.theorem,
            "conditions": [c.to_json() for c in self.conditions],
            "counterexamples": [c.to_json() for c in self.counterexamples],
            "sources": list(self.sources),
        }
