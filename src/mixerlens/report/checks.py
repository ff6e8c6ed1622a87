"""The certificate as the page tells it: rows for the table, a verdict, and what a failing check means."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from mixerlens.report.words import CHECKS, NOISE, number, plain_text

FLOOR, ROOF, RAIL = -16.0, 1.0, 150  # decades on the error rail, and its length in pixels
STYLES = {"pass": "pass", "fail": "fail", "n/a": "none"}
NOISE_WORDS = "measured rounding noise"


@dataclass(frozen=True)
class CheckRow:
    """One check. style is "pass", "fail" or "none"; dot and limit are places on the error rail, None where unknown.

    rows: over how many rows the reason reaches, 0 where a row above tells it.
    """

    style: str
    status: str
    check: str
    variant: str
    help: str
    max_rel: str
    max_abs: str
    tolerance: str
    where: str
    reason: str
    dot: float | None
    limit: float | None
    rows: int = 1

    @property
    def reason_parts(self) -> list[tuple[str, str]]:
        """The reason in pieces, each with its tooltip or none."""
        before, noise, after = self.reason.partition(NOISE_WORDS)
        return [(text, help) for text, help in ((before, ""), (noise, NOISE), (after, "")) if text]


@dataclass(frozen=True)
class Verdict:
    """The answer in one line, and a paragraph for each kind of check that fails."""

    style: str
    headline: str
    detail: str
    failures: list[tuple[str, str]]
    rows: list[CheckRow]  # the worst of those that hold alike, and every one that does not
    every: list[CheckRow]

    @property
    def decades(self) -> list[tuple[float | None, str]]:
        """Marks of the error rail: place and text."""
        return [(_place(10.0**k), text) for k, text in ((-15, "10⁻¹⁵"), (-10, "10⁻¹⁰"), (-5, "10⁻⁵"), (0, "1"))]


def verdict(certificate: Any | None, unit: str = "token", runs: str = "the code that runs this model") -> Verdict:
    """The page's first part, from ``certificate.to_json()``; None: nothing was checked.

    unit: what a position counts. runs: the library whose code ran the model, with the model's type.
    """
    if certificate is None:
        text = "Made without a certificate: nothing here says that the coefficients are the model's own."
        return Verdict("none", "Not checked", text, [], [], [])
    written = certificate.to_json()
    every = [_row(check, unit) for check in written["checks"]]
    rows, every = _shared(_grouped(written["checks"], unit)), _shared(every)
    count = {style: sum(row.style == style for row in every) for style in ("pass", "fail", "none")}
    verb = "does" if count["none"] == 1 else "do"
    aside = f" {count['none']} {verb} not apply to this model and is no failure." if count["none"] else ""
    aside = aside.replace("is no", "are no") if count["none"] > 1 else aside
    if written["passed"] and count["pass"]:
        headline = f"All {count['pass']} checks pass" if count["pass"] > 1 else "The check passes"
        detail = "The coefficients below are what this model computed, up to the errors stated." + aside
        return Verdict("pass", headline, detail, [], rows, every)
    if written["passed"]:
        return Verdict("none", "Nothing could be checked", aside.strip(), [], rows, every)
    headline = f"{count['fail']} of {count['pass'] + count['fail']} checks fail"
    failing = list(dict.fromkeys(check["check"] for check in written["checks"] if check["status"] == "fail"))
    if "operator" in failing:
        detail = "The coefficients below do not describe this model exactly."
    else:
        detail = (
            "The coefficients below are what this model computed in the full forward pass. The fault lies in "
            f"{runs}: called in another way, it gives other answers for the same text."
        )
    if "operator" not in failing:
        runs += ", measured on this input; it is not a fault of the coefficients shown"
    return Verdict("fail", headline, detail + aside, [(name, _meaning(name, runs)) for name in failing], rows, every)


def _grouped(checks: list[dict[str, Any]], unit: str) -> list[CheckRow]:
    """One row for the mixers that pass an operator check, the one nearest to its tolerance, and one for the checks
    that do not apply for the same reason.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for k, check in enumerate(checks):
        key: tuple[Any, ...] = (k,)
        if check["status"] == "n/a":
            key = ("n/a", check["reason"])
        elif check["check"] == "operator" and check["status"] == "pass":
            key = ("pass", check["variant"])
        groups.setdefault(key, []).append(check)
    rows = []
    for group in groups.values():
        worst = max(group, key=lambda c: (c.get("max_rel") or 0) / (c.get("tolerance") or 1))
        row = _row(worst, unit)
        if len(group) > 1 and worst["status"] == "n/a":
            names = list(dict.fromkeys(check["check"] for check in group))
            help = " ".join(CHECKS[name][0] for name in names if name in CHECKS)
            row = replace(row, check=", ".join(names), variant="", help=help)
        elif len(group) > 1:
            row = replace(row, variant=f"{row.variant} (worst of {len(group)})".strip())
        rows.append(row)
    return rows


def _shared(rows: list[CheckRow]) -> list[CheckRow]:
    """Rows of a check that give the same reason stand together and tell it once."""
    groups: dict[tuple[str, str, bool], list[CheckRow]] = {}
    for row in rows:
        groups.setdefault((row.check, row.reason, row.style == "none"), []).append(row)
    return [
        replace(row, rows=0 if k else len(group)) for group in groups.values() for k, row in enumerate(group)
    ]  # fmt: skip


def _meaning(name: str, runs: str) -> str:
    claim, consequence = CHECKS.get(name, ("", "see the reason in the table."))
    expected = f"Expected: {claim[0].lower() + claim[1:] if claim else 'no difference.'}"
    if name == "operator":
        return f"{consequence[0].upper() + consequence[1:]} {expected}"
    return f"{consequence[0].upper() + consequence[1:]} This is a fault of {runs}. {expected}"


def _row(check: dict[str, Any], unit: str) -> CheckRow:
    rel, tolerance, reason = check.get("max_rel"), check.get("tolerance"), check.get("reason") or ""
    names = (("layer", "layer"), ("head", "head"), (unit, "position"))
    places = [f"{name} {plain_text(check[key])}" for name, key in names if check.get(key) is not None]
    return CheckRow(
        style=STYLES[check["status"]],
        status=check["status"],
        check=check["check"],
        variant=plain_text(check.get("variant") or ""),
        help=CHECKS.get(check["check"], ("",))[0],
        max_rel=number(rel),
        max_abs=number(check.get("max_abs")),
        tolerance=number(tolerance),
        where="" if check.get("max_abs") == 0 else ", ".join(places),
        reason=plain_text(f"does not apply: {reason}" if check["status"] == "n/a" else reason),
        dot=_place(rel),
        limit=_place(tolerance),
    )


def _place(value: float | None) -> float | None:
    """Where an error lies on the rail, in pixels; 0 at the left end."""
    if value is None or math.isnan(value):
        return None
    decade = FLOOR if value <= 0 else min(ROOF, max(FLOOR, math.log10(value))) if math.isfinite(value) else ROOF
    return round(6 + (RAIL - 12) * (decade - FLOOR) / (ROOF - FLOOR), 1)
