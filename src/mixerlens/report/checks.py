"""The certificate in words, for the page and the terminal: rows that checks share, the verdict, what a fault means."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from mixerlens.report.words import CHECKS, NOISE, number, plain_text

Written = dict[str, Any]  # a check of ``certificate.to_json()``

FLOOR, ROOF, RAIL = -16.0, 1.0, 150  # decades on the error rail, and its length in pixels
STYLES = {"pass": "pass", "fail": "fail", "n/a": "none"}
NOISE_WORDS = "measured rounding noise"


@dataclass(frozen=True)
class Group:
    """Checks that share a row: the one nearest to its tolerance, and how many it stands for."""

    worst: Written
    names: str
    count: int

    @property
    def variant(self) -> str:
        """The variant of the row's check, with how many checks share the row."""
        if self.count == 1:
            return self.worst["variant"]
        if self.worst["status"] == "n/a":
            return f"{self.count} checks"
        return f"{self.worst['variant']}, worst of {self.count}"


def grouped(checks: list[Written], every: bool = False) -> list[Group]:
    """Rows for a table, in order: checks that do not apply for the same reason share one.

    So do the mixers that pass an operator check of one variant, unless ``every`` check is to be seen.
    """
    groups: dict[tuple[Any, ...], list[Written]] = {}
    for k, check in enumerate(checks):
        key: tuple[Any, ...] = (k,)
        if check["status"] == "n/a":
            key = ("n/a", check["reason"])
        elif check["check"] == "operator" and check["status"] == "pass" and not every:
            key = ("pass", check["variant"])
        groups.setdefault(key, []).append(check)
    return [
        Group(
            max(group, key=lambda c: (c.get("max_rel") or 0) / (c.get("tolerance") or 1)),
            ", ".join(dict.fromkeys(check["check"] for check in group)),
            len(group),
        )
        for group in groups.values()
    ]


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
    rows: list[CheckRow]  # the worst of those that pass alike, and every one that does not
    every: list[CheckRow]
    checks: int = 0  # that the rows of ``every`` stand for

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
    checks = written["checks"]
    rows, every = (_rows(grouped(checks, every), unit) for every in (False, True))
    count = {style: sum(STYLES[check["status"]] == style for check in checks) for style in ("pass", "fail", "none")}
    verb = "does" if count["none"] == 1 else "do"
    aside = f" {count['none']} {verb} not apply to this model and is no failure." if count["none"] else ""
    aside = aside.replace("is no", "are no") if count["none"] > 1 else aside
    headline = _headline(count)
    if written["passed"] and count["pass"]:
        detail = "The coefficients below are what this model computed, up to the errors stated." + aside
        return Verdict("pass", headline, detail, [], rows, every, len(checks))
    if written["passed"]:
        return Verdict("none", headline, aside.strip(), [], rows, every, len(checks))
    failing = list(dict.fromkeys(check["check"] for check in checks if check["status"] == "fail"))
    if "operator" in failing:
        detail = "The coefficients below do not describe this model exactly."
    else:
        detail = (
            "The coefficients below are what this model computed in the full forward pass. The fault lies in "
            f"{runs}: called in another way, it gives other answers for the same text."
        )
    if "operator" not in failing:
        runs += ", measured on this input; it is not a fault of the coefficients shown"
    meanings = [(name, _meaning(name, runs)) for name in failing]
    return Verdict("fail", headline, detail + aside, meanings, rows, every, len(checks))


def _headline(count: dict[str, int]) -> str:
    """The verdict in a few words, the same on the page and in the terminal."""
    ran = count["pass"] + count["fail"]
    if not ran:
        return "Nothing could be checked"
    if ran == 1:
        return "The check fails" if count["fail"] else "The check passes"
    if not count["fail"]:
        return f"All {ran} checks pass"
    return f"{count['fail']} of {ran} checks {'fails' if count['fail'] == 1 else 'fail'}"


def _rows(groups: list[Group], unit: str) -> list[CheckRow]:
    """Rows that give the same reason stand together and tell it once."""
    alike: dict[tuple[str, str, bool], list[CheckRow]] = {}
    for row in (_row(group, unit) for group in groups):
        alike.setdefault((row.check, row.reason, row.style == "none"), []).append(row)
    return [replace(row, rows=0 if k else len(rows)) for rows in alike.values() for k, row in enumerate(rows)]


def _meaning(name: str, runs: str) -> str:
    claim, consequence = CHECKS.get(name, ("", "see the reason in the table."))
    expected = f"Expected: {claim[0].lower() + claim[1:] if claim else 'no difference.'}"
    if name == "operator":
        return f"{consequence[0].upper() + consequence[1:]} {expected}"
    return f"{consequence[0].upper() + consequence[1:]} This is a fault of {runs}. {expected}"


def places(check: Written, unit: str) -> str:
    """Where an error is largest: "layer 2, head 1, token 370"; an error of zero is nowhere."""
    if check.get("max_abs") == 0:
        return ""
    names = (("layer", "layer"), ("head", "head"), (unit, "position"))
    return ", ".join(f"{name} {plain_text(check[key])}" for name, key in names if check.get(key) is not None)


def reason(check: Written) -> str:
    """What was compared and why so much is allowed, or why the check does not apply."""
    why = check.get("reason") or ""
    return plain_text(f"does not apply: {why}" if check["status"] == "n/a" else why)


def _row(group: Group, unit: str) -> CheckRow:
    check = group.worst
    rel, tolerance = check.get("max_rel"), check.get("tolerance")
    names = group.names.split(", ")
    return CheckRow(
        style=STYLES[check["status"]],
        status=check["status"],
        check=group.names,
        variant=plain_text(group.variant or "").replace("worst of ", "worst of\u00a0"),
        help=" ".join(CHECKS[name][0] for name in names if name in CHECKS),
        max_rel=number(rel),
        max_abs=number(check.get("max_abs")),
        tolerance=number(tolerance),
        where=places(check, unit),
        reason=reason(check),
        dot=_place(rel),
        limit=_place(tolerance),
    )


def _place(value: float | None) -> float | None:
    """Where an error lies on the rail, in pixels; 0 at the left end."""
    if value is None or math.isnan(value):
        return None
    decade = FLOOR if value <= 0 else min(ROOF, max(FLOOR, math.log10(value))) if math.isfinite(value) else ROOF
    return round(6 + (RAIL - 12) * (decade - FLOOR) / (ROOF - FLOOR), 1)
