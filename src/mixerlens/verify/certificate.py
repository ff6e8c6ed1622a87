"""What was checked, how far off it was, what was allowed and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "n/a"
FIELDS = (
    "check", "variant", "status", "max_abs", "max_rel", "tolerance", "reason", "layer", "head", "position",
)  # fmt: skip
COLUMNS = ("check", "variant", "status", "rel. error", "absolute", "allowed", "where", "note")
NUMBERS = ("rel. error", "absolute", "allowed")
COLOURS = {PASS: "green", FAIL: "bold red", NOT_APPLICABLE: "dim"}

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Check:
    """One check of one thing.

    max_abs: largest absolute error. max_rel: largest over heads of max |error| / max |reference|; this is what is
    compared with the tolerance. layer, head, position: where it is largest; None where there is no such axis.
    reason: what was compared and where the tolerance comes from, or why the check does not apply.
    mixer: path of the mixer, for operator checks (not part of the JSON; the reason names it).
    """

    check: str
    variant: str
    status: str
    max_abs: float | None
    max_rel: float | None
    tolerance: float | None
    reason: str
    layer: int | None = None
    head: int | None = None
    position: int | None = None
    mixer: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings; infinities, which JSON lacks, become null."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


@dataclass(frozen=True)
class Certificate:
    """The checks of one trace.  `passed`: none of them failed; what does not apply is no failure."""

    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.status != FAIL for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "checks": [check.to_json() for check in self.checks]}

    def render(self) -> Any:
        """A rich table: the worst operator check of each variant, every other check, and the reasons as notes."""
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="certificate: " + ("holds" if self.passed else "does not hold"), title_justify="left")
        for name in COLUMNS:
            justify = "right" if name in NUMBERS else "left"
            table.add_column(name, justify=justify, no_wrap=name in NUMBERS, overflow="fold")
        notes: dict[str, int] = {}
        for check, count in self._shown():
            variant = check.variant if count == 1 else f"{check.variant}, worst of {count}"
            note = str(notes.setdefault(check.reason, len(notes) + 1))
            status = f"[{COLOURS[check.status]}]{check.status}[/]"
            numbers = (_number(check.max_rel), _number(check.max_abs), _number(check.tolerance))
            table.add_row(check.check, variant, status, *numbers, _where(check), note)
        return Group(table, *(f"{number}  {escape(reason)}" for reason, number in notes.items()))

    def _shown(self) -> list[tuple[Check, int]]:
        """Operator checks that pass are many: one row, the worst, stands for those of a variant."""
        shown: list[tuple[Check, int]] = []
        groups: dict[str, list[Check]] = {}
        for check in self.checks:
            if check.check == "operator" and check.status == PASS:
                groups.setdefault(check.variant, []).append(check)
            else:
                shown.append((check, 1))
        worst = [
            (max(group, key=lambda c: (c.max_rel or 0) / (c.tolerance or 1)), len(group)) for group in groups.values()
        ]
        return worst + shown


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.1e}"


def _where(check: Check) -> str:
    parts = (("layer", check.layer), ("head", check.head), ("token", check.position))
    return ", ".join(f"{name} {value}" for name, value in parts if value is not None)
