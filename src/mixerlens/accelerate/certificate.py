"""What acceleration changed in a model's answers, by numbers, and which mixers it reached."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from mixerlens.verify.certificate import PASS, Certificate, Check

SHOWN = 3  # paths a row; all are in the JSON


@dataclass(frozen=True)
class AccelerationCertificate(Certificate):
    """The plain against the accelerated model.

    checks: "logits", "mixer" (outputs and states of every accelerated mixer on the arguments of the same call; variant
        "model" in the model's dtype, "float64" in float64, "long" in float64 on 579 tokens or more), "step", "chunk",
        "padding", "gradient".
    accelerated: path -> scan. unchanged: path -> why it runs as before. kept: path -> {why the library's function was
    called: how often}, of accelerated mixers, for the certificate's own calls.
    """

    accelerated: dict[str, str]
    unchanged: dict[str, str]
    kept: dict[str, dict[str, int]]

    def to_json(self) -> dict[str, Any]:
        more = {"accelerated": self.accelerated, "unchanged": self.unchanged, "kept": self.kept}
        return super().to_json() | more

    def render(self, unit: str = "token") -> Any:
        """What ``rich`` prints: the mixers, then the checks; mixers that pass share a row, the worst."""
        from rich.console import Group
        from rich.text import Text

        from mixerlens.report import certificate_table
        from mixerlens.report.grid import Grid

        mixers = Grid("mixers", ("computed by", "mixers", "where, or why"), right=("mixers",))
        for scan, count in Counter(self.accelerated.values()).items():
            mixers.add_row(scan, str(count), _some([path for path, name in self.accelerated.items() if name == scan]))
        for why in dict.fromkeys(self.unchanged.values()):
            paths = [path for path, reason in self.unchanged.items() if reason == why]
            mixers.add_row("the library", str(len(paths)), f"{_some(paths)}: {why}")
        for path, reasons in self.kept.items():
            for why, calls in reasons.items():
                mixers.add_row("the library", "", f"{calls} calls of {path}: {why}")
        return Group(mixers, Text(), certificate_table(Certificate(_condensed(self.checks)), unit))


def _some(paths: list[str]) -> str:
    more = len(paths) - SHOWN
    return ", ".join(paths[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _condensed(checks: list[Check]) -> list[Check]:
    """Of the mixers that pass one variant, only the one nearest to its tolerance."""
    alike: dict[str, list[Check]] = {}
    for check in checks:
        if check.check == "mixer" and check.status == PASS:
            alike.setdefault(check.variant, []).append(check)
    shown = {}
    for variant, group in alike.items():
        worst = max(group, key=lambda c: (c.max_rel or 0.0) / (c.tolerance or 1.0))
        shown[id(group[0])] = replace(worst, variant=f"{variant}, worst of {len(group)}") if len(group) > 1 else worst
    return [
        shown.get(id(check), check)
        for check in checks
        if check.check != "mixer" or check.status != PASS or id(check) in shown
    ]
