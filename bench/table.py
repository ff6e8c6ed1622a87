"""The table, as rows of strings: of every contender, and of every bar. Printed and written from the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.measure import working

Document = dict[str, Any]
WAYS = ("case", "way", "time", "quartiles", "error", "memory beyond the result", "of GEMM", "exponent")
BARS = ("what", "mixerlens", "against", "measured", "bar", "met")
MEASURES = {"speed": "speed", "memory": "memory", "units": "time", "share": "rate", "seconds": "time", "MiB": "memory",
            "exponent": "growth with L", "excess": "time"}  # fmt: skip


def seconds(s: float) -> str:
    """Three digits with the unit that fits."""
    if s < 0:
        return f"-{seconds(-s)}"
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if s >= unit:
            return f"{s / unit:.3g} {name}" if s / unit < 999.5 else f"{s / unit:.0f} {name}"
    return f"{s * 1e9:.3g} ns"


def size(count: float) -> str:
    mib = count / 2**20
    return f"{mib / 1024:.2f} GiB" if mib >= 1024 else f"{mib:.0f} MiB" if mib >= 10 else f"{mib:.1f} MiB"


def time_of(way: Document) -> str:
    if "missing" in way:
        return f"missing: {way['missing']}"
    if "seconds" not in way:
        return ""
    if "extrapolated" in way:
        measured = f"{seconds(way['seconds']['median'])} at {way['measured_at']}"
        return f"{seconds(way['extrapolated'])} (extrapolated from {measured})"
    return seconds(way["seconds"]["median"])


def ways(document: Document) -> list[tuple[str, ...]]:
    """One line a contender of every case; a red case has no times."""
    lines = []
    for row in document["rows"].values():
        for n, (name, way) in enumerate(row["contenders"].items()):
            measured = way.get("seconds")
            lines.append(
                (
                    row["title"] if n == 0 else "",
                    name,
                    "RED, no speed shown" if row["status"] == "red" and "missing" not in way else time_of(way),
                    _spread(measured) if measured else "",
                    way.get("failure") or (f"{way['error']:.0e}" if "error" in way else ""),
                    _memory(way),
                    share(way),
                    growth(way),
                )
            )
    return lines


def _spread(measured: Document) -> str:
    if measured["count"] == 1:
        return "one call"
    return f"{seconds(measured['low'])} .. {seconds(measured['high'])}"


def share(way: Document) -> str:
    """Of the machine's matrix product, with the flops of exponentials and, where there are any, without."""
    if "share" not in way:
        return ""
    alone = f" ({way['multiply_add_share']:.1%} without exp2)" if "multiply_add_share" in way else ""
    return f"{way['share']:.1%}{alone}"


def growth(way: Document) -> str:
    """The fitted exponent, and the slope between the two longest lengths."""
    return f"{way['exponent']:.2f} (last step {way['last_slope']:.2f})" if "exponent" in way else ""


def _memory(way: Document) -> str:
    if "bytes" not in way:
        return way.get("memory_failure", "")
    remark = way["bytes"].get("remark")
    return size(working(way)) + (f"; {remark}" if remark else "")


def bars(document: Document) -> list[tuple[str, ...]]:
    """One line a promise: what was measured, what was asked, and whether it is met.

    Bars of a case that differ in nothing but the way they are about are one line, with the worst of their values.
    """
    lines = []
    for row in document["rows"].values():
        ways, alike = row["contenders"], {}
        for bar in row["bars"]:
            alike.setdefault((bar["measure"], bar["bound"], bar["against"], _path(ways, bar["ours"])), []).append(bar)
        for (measure, _, against, path), group in alike.items():
            ours = [quantity(measure, ways[bar["ours"]]) or "-" for bar in group]
            if len(group) > 1 or not group[0]["ours"].startswith("mixerlens"):
                ours = [f"{bar['ours']} {shown}" for bar, shown in zip(group, ours, strict=True)]
            other = f"{quantity(measure, ways[against])} ({against})" if against else ""
            worst = _worst(group)
            what = f"{row['title']}: {MEASURES[measure]}{path}"
            way = ways[worst["ours"]]
            found = f"{share(way)} of GEMM" if measure == "share" and "share" in way else ratio(measure, worst["value"])
            lines.append((what, "; ".join(ours), other, found, asked(worst), met(worst)))
    return lines


def _path(ways: Document, name: str) -> str:
    """Which code a bar is about, where both are measured."""
    if not any(way.get("native") for way in ways.values()):
        return ""
    return ", C file" if ways[name].get("native") else ", torch path"


def _worst(group: list[Document]) -> Document:
    """The bar that is missed by most, or was not measured at all."""
    least = group[0]["least"]
    return min(group, key=lambda bar: -math.inf if bar["value"] is None else bar["value"] if least else -bar["value"])


def quantity(measure: str, way: Document) -> str:
    """What a bar is about, of one contender."""
    if measure in ("speed", "units", "seconds", "share", "excess"):
        return time_of(way)
    if measure == "memory":
        return size(working(way)) if "bytes" in way else ""
    if measure == "MiB":
        return size(way["bytes"]["peak"]) if "bytes" in way else ""
    return growth(way)


def ratio(measure: str, value: float | None) -> str:
    if value is None:
        return "not measured"
    match measure:
        case "speed":
            return f"{value:.3g}x faster" if value < 999.5 else f"{value:,.0f}x faster"
        case "memory":
            return f"1/{value:.0f} of it"
        case "units":
            return f"{value:.2f}x its time"
        case "share":
            return f"{value:.1%} of GEMM"
        case "seconds" | "excess":
            return seconds(value)
        case "MiB":
            return size(value * 2**20)
    return f"L^{value:.2f}"


def asked(bar: Document) -> str:
    """The bound in words, with the unit of its measure."""
    if bar["bound"] is None:
        return "shown beside"
    forms = {
        "speed": "{:g}x", "memory": "1/{:g}", "units": "{:g}x", "share": "{:.0%}", "seconds": "{:g} s",
        "excess": "{:g} s", "MiB": "{:g} MiB", "exponent": "L^{:g}",
    }  # fmt: skip
    sign = "at least" if bar["measure"] in ("speed", "share") else "at most"
    return f"{sign} {forms[bar['measure']].format(bar['bound'])}"


def met(bar: Document) -> str:
    if bar["bound"] is None:
        return ""
    return {True: "met", False: "NOT met", None: "-"}[bar["met"]]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def machine(document: Document) -> str:
    """Where and with what, in one paragraph."""
    m = document["machine"]
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in m["versions"].items())
    threads = "one thread" if m["threads"] == 1 else f"{m['threads']} threads"
    quick = "QUICK RUN, tiny sizes: these are no results. " if document["quick"] else ""
    return (
        f"{quick}{document['date']}, {m['cpu']}, {m['vector']}, {m['cores']} cores, {m['memory_gib']} GiB, {threads}, "
        f"{m['system']}, Python {m['python']}. Versions: {versions}."
    )


def paths(document: Document) -> str:
    """Which of our own paths the lines are about."""
    return (
        "Lines are about the torch paths, measured with the optional C library off, but for those that are called C "
        f"(here: {document['machine']['native']}). GEMM is torch's own, which is not always the machine's limit: "
        "on an AMD EPYC of family 26 another library's (OpenBLAS with AVX-512) was 2.3 times as fast. In shares of it "
        "a power of two counts as 16 flops; the share in brackets counts the multiply-adds alone. Beside each fitted "
        "exponent, which its bar is about, stands the slope between the two longest lengths."
    )


def limits(document: Document) -> str:
    """The machine's own rates, in one sentence."""
    shown = ", ".join(f"{name} {r['rate']:.3g} {r['unit']}" for name, r in document["rates"].items())
    return f"The machine's own rates in the same run: {shown}."
