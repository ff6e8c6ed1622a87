"""The certificate as the page tells it: rows for the table, a verdict, and what a failing check means."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from mixerlens.report.words import CHECKS, number, plain_text

FLOOR, ROOF, RAIL = -16.0, 1.0, 150  # decades on the error rail, and its length in pixels
STATUS = {"pass": ("pass", "holds"), "fail": ("fail", "fails"), "n/a": ("none", "n/a")}


@dataclass(frozen=True)
class CheckRow:
    """One check. style is "pass", "fail" or "none"; dot and limit are places on the error rail, None where unknown."""

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


def verdict(certificate: Any | None) -> Verdict:
    """The page's first part, from ``certificate.to_json()``; None: nothing was checked."""
    if certificate is None:
        text = "Made without a certificate: nothing here says that the coefficients are the model's own."
        return Verdict("none", "Not checked", text, [], [], [])
    written = certificate.to_json()
    every = [_row(check) for check in written["checks"]]
    rows = _grouped(written["checks"])
    count = {style: sum(row.style == style for row in every) for style in ("pass", "fail", "none")}
    verb = "does" if count["none"] == 1 else "do"
    aside = f" {count['none']} {verb} not apply to this model and is no failure." if count["none"] else ""
    aside = aside.replace("is no", "are no") if count["none"] > 1 else aside
    if written["passed"] and count["pass"]:
        headline = f"All {count['pass']} checks hold" if count["pass"] > 1 else "The check holds"
        detail = "The coefficients below are what this model computed, up to the errors stated." + aside
        return Verdict("pass", headline, detail, [], rows, every)
    if written["passed"]:
        return Verdict("none", "Nothing could be checked", aside.strip(), [], rows, every)
    headline = f"{count['fail']} of {count['pass'] + count['fail']} checks fail"
    failing = list(dict.fromkeys(check["check"] for check in written["checks"] if check["status"] == "fail"))
    operator = "operator" in failing
    detail = (
        "The coefficients below do not describe this model exactly."
        if operator
        else "The coefficients below are what this model computed in the full forward pass. What fails is the model's "
        "code as it was run: the same model gives different answers when it is called in another way."
    )
    return Verdict("fail", headline, detail + aside, [(name, _meaning(name)) for name in failing], rows, every)


def _grouped(checks: list[dict[str, Any]]) -> list[CheckRow]:
    """The mixers of an operator check that hold are many: the one nearest to its tolerance stands for them."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for k, check in enumerate(checks):
        alike = check["check"] == "operator" and check["status"] == "pass"
        groups.setdefault((check["check"], check["variant"]) if alike else (k,), []).append(check)
    rows = []
    for group in groups.values():
        worst = max(group, key=lambda c: (c.get("max_rel") or 0) / (c.get("tolerance") or 1))
        rows.append(replace(_row(worst), variant=f"{worst['variant']} (worst of {len(group)})".strip()))
        if len(group) == 1:
            rows[-1] = _row(worst)
    return rows


def _meaning(name: str) -> str:
    claim, consequence = CHECKS.get(name, ("", "see the reason in the table."))
    own = (
        "" if name == "operator" else "This is a fact about the library's code for this model, measured on this input: "
    )
    return f"{own}{consequence} Expected: {claim[0].lower() + claim[1:] if claim else 'no difference.'}"


def _row(check: dict[str, Any]) -> CheckRow:
    style, status = STATUS[check["status"]]
    places = [
        f"{name} {plain_text(check[name])}" for name in ("layer", "head", "position") if check.get(name) is not None
    ]
    rel, tolerance = check.get("max_rel"), check.get("tolerance")
    return CheckRow(
        style=style,
        status=status,
        check=check["check"],
        variant=plain_text(check.get("variant") or ""),
        help=CHECKS.get(check["check"], ("",))[0],
        max_rel=number(rel),
        max_abs=number(check.get("max_abs")),
        tolerance=number(tolerance),
        where=", ".join(places),
        reason=plain_text(check.get("reason") or ""),
        dot=_place(rel),
        limit=_place(tolerance),
    )


def _place(value: float | None) -> float | None:
    """Where an error lies on the rail, in pixels; 0 at the left end."""
    if value is None or math.isnan(value):
        return None
    decade = FLOOR if value <= 0 else min(ROOF, max(FLOOR, math.log10(value))) if math.isfinite(value) else ROOF
    return round(6 + (RAIL - 12) * (decade - FLOOR) / (ROOF - FLOOR), 1)
