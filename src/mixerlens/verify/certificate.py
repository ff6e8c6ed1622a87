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
COLUMNS = ("check", "variant", "status", "rel. error", "allowed (rel.)", "absolute", "worst at", "note")
NUMBERS = ("rel. error", "allowed (rel.)", "absolute")
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
        from rich.table import Table
        from rich.text import Text

        table = Table(title="certificate: " + ("holds" if self.passed else "does not hold"), title_justify="left")
        for name in COLUMNS:
            justify = "right" if name in NUMBERS else "left"
            table.add_column(name, justify=justify, no_wrap=name in ("status", *NUMBERS), overflow="fold")
        notes: dict[str, int] = {}
        for checks, variant in self._shown():
            check = checks[0]
            names = ", ".join(dict.fromkeys(c.check for c in checks))
            reason = f"does not apply: {check.reason}" if check.status == NOT_APPLICABLE else check.reason
            note = str(notes.setdefault(reason, len(notes) + 1))
            numbers = (_number(check.max_rel), _number(check.tolerance), _number(check.max_abs))
            cells = (names, variant, Text(check.status, COLOURS[check.status]), *numbers, _where(check), note)
            table.add_row(*(Text(c) if isinstance(c, str) else c for c in cells))  # text: nothing is read as markup
        return Group(table, *(Text(f"{number}  {reason}") for reason, number in notes.items()))

    def _shown(self) -> list[tuple[list[Check], str]]:
        """The checks of each row, its own first, and its variant.

        Operator checks that pass are many: the worst stands for those of a variant. Checks that do not apply for the
        same reason share a row.
        """
        groups: dict[tuple[Any, ...], list[Check]] = {}
        for k, check in enumerate(self.checks):
            key: tuple[Any, ...] = (k,)
            if check.status == NOT_APPLICABLE:
                key = (NOT_APPLICABLE, check.reason)
            elif check.check == "operator" and check.status == PASS:
                key = (PASS, check.variant)
            groups.setdefault(key, []).append(check)
        shown = []
        for group in groups.values():
            worst = max(group, key=lambda c: (c.max_rel or 0) / (c.tolerance or 1))
            if len(group) == 1:
                shown.append((group, worst.variant))
            elif worst.status == NOT_APPLICABLE:
                shown.append((group, ""))
            else:
                shown.append(([worst], f"{worst.variant}, worst of {len(group)}"))
        return shown


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.1e}"


def _where(check: Check) -> str:
    """Where the error is largest; an error of zero is nowhere."""
    if check.max_abs == 0:
        return ""
    parts = (("layer", check.layer), ("head", check.head), ("token", check.position))
    return ", ".join(f"{name} {value}" for name, value in parts if value is not None)
