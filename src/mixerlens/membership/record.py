"""What a membership question is answered with: one finding a test, and the verdict they add up to."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["holds", "refutes", "proves", "note", "unclear", "not run"]
Verdict = Literal["member", "member by lifting", "not a member", "undecided"]

WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """One test: what was measured, against which bar, and what that says.

    outcome: "holds" (what every member does; by itself it proves nothing), "refutes" (no member does this), "proves"
    (a member with these coefficients was found), "note" (neither), "unclear" (between the bars), "not run".
    numbers: what was measured, by name. bar: the threshold in words. meaning: one sentence. inputs: what was put in.
    """

    test: str
    outcome: Outcome
    meaning: str
    numbers: dict[str, Any] = field(default_factory=dict)
    bar: str = ""
    inputs: str = ""

    @property
    def measured(self) -> str:
        """The numbers in one line."""
        return ", ".join(f"{name} {_short(value)}" for name, value in self.numbers.items())

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        from mixerlens.measures.record import plain

        return plain(
            {
                "test": self.test,
                "outcome": self.outcome,
                "numbers": self.numbers,
                "bar": self.bar,
                "meaning": self.meaning,
                "inputs": self.inputs,
            }
        )

    def __str__(self) -> str:
        """One line: the test, what was measured, the bar."""
        parts = [self.measured, f"bar: {self.bar}" if self.bar else ""]
        figures = "; ".join(p for p in parts if p)
        return f"{self.test}: {self.meaning}" + (f" ({figures})" if figures else "")


@dataclass(frozen=True)
class Membership:
    """Whether a mixer is an instance of the one equation, and the evidence.

    reason: what decided, in one sentence. readout: the readout map that was found, where one was. state: numbers a
    value channel that a causal linear recurrence needs, where they stop growing. findings: every test, in order.
    settings: mixer, shapes, dtype and seed of the question.
    """

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]
    readout: str | None = None
    state: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def member(self) -> bool | None:
        """True for a member, by lifting too; False for none; None where the evidence does not decide."""
        return None if self.verdict == "undecided" else self.verdict != "not a member"

    @property
    def witness(self) -> Finding | None:
        """The finding that refutes membership; None if none does."""
        return next((f for f in self.findings if f.outcome == "refutes"), None)

    def __getitem__(self, test: str) -> Finding:
        """The finding of the test with this name. Raises KeyError for a test that was not reached."""
        for finding in self.findings:
            if finding.test == test:
                return finding
        raise KeyError(f"no test called {test!r} was reached: there are {', '.join(f.test for f in self.findings)}")

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        from mixerlens.measures.record import plain

        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "readout": self.readout,
            "state": self.state,
            "findings": [f.to_json() for f in self.findings],
            "settings": plain(self.settings),
        }

    def __str__(self) -> str:
        """The verdict, the reason, then every test with its outcome, its numbers and what they mean."""
        lines = [f"{self.settings.get('mixer', 'mixer')}: {self.verdict}"]
        lines += textwrap.wrap(self.reason, WIDTH, initial_indent="  because ", subsequent_indent="  ")
        lines.append("")
        for f in self.findings:
            head = f"  {f.test:<16} {f.outcome:<8} {f.measured}".rstrip()
            if f.bar:
                head += f"   [{f.bar}]"
            lines += textwrap.wrap(head, WIDTH, subsequent_indent=" " * 28)
            lines += textwrap.wrap(f.meaning, WIDTH, initial_indent=" " * 28, subsequent_indent=" " * 28)
        return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2g}" if 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_short(v) for v in value) + "]"
    return str(value)
