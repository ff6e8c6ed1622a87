"""What was checked, how far off it was, what was allowed and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WIDTH = 100  # of the table as text, as the command line prints it where there is no terminal
PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "n/a"
FIELDS = (
    "check", "variant", "status", "max_abs", "max_rel", "tolerance", "reason", "layer", "head", "position",
)  # fmt: skip

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

    def __str__(self) -> str:
        """The table of the terminal as plain text, 100 columns wide."""
        import io

        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=WIDTH, highlight=False, color_system=None).print(self.render())
        return text.getvalue().rstrip("\n")

    def to_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "checks": [check.to_json() for check in self.checks]}

    def render(self, unit: str = "token") -> Any:
        """What ``rich`` prints; see ``report.certificate_table``. unit: what a position counts."""
        from mixerlens.report import certificate_table

        return certificate_table(self, unit)
