"""Writes docs/bench.{md,json,png} and the marked section of the README, each whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench import figure, store, table
from mixerlens.errors import InputError
from mixerlens.files import write_whole

START, END = "<!-- bench: written by `make bench` -->", "<!-- bench: end -->"


def publish(document: dict[str, Any], cases: list[str], root: Path = store.ROOT) -> list[Path]:
    """All four; raises InputError for a quick or unfinished run, and for a README without the markers."""
    lacking = [name for name in cases if name not in document["rows"]]
    if document["quick"]:
        raise InputError("a quick run is no result: nothing is written to the docs or the README")
    if lacking:
        raise InputError(f"not every case was measured ({', '.join(lacking)}): run all of them, or go on with --resume")
    readme = root / "README.md"
    text = section(readme.read_text(encoding="utf-8"), summary(document))
    docs = root / "docs"
    store.save(document, docs / "bench.json")
    figure.draw(document, docs / "bench.png")
    write_whole(docs / "bench.md", page(document))
    write_whole(readme, text)
    return [docs / "bench.json", docs / "bench.png", docs / "bench.md", readme]


def section(text: str, inside: str) -> str:
    """The text with what stands between the two markers replaced."""
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise InputError(f"the README needs the markers {START} and {END} once, in this order")
    return pattern.sub(lambda _: f"{START}\n{inside}\n{END}", text)


def summary(document: dict[str, Any]) -> str:
    """The README's section: the bars, where and when."""
    counted = [line[-1] for line in table.bars(document) if line[-1]]
    return "\n\n".join(
        (
            f"{counted.count('met')} of {len(counted)} bars are met. {table.machine(document)} "
            + table.limits(document),
            table.paths(document),
            table.markdown(table.BARS, table.bars(document)),
            "Every way, with spreads, errors, memory and the counts of flops: [docs/bench.md](docs/bench.md).",
        )
    )


def page(document: dict[str, Any]) -> str:
    """docs/bench.md."""
    rows = document["rows"].values()
    notes = [f"- {row['title']}: {told}" for row in rows if (told := _about(row))]
    notes += [f"- {row['title']}, flops: {row['flops_note']}" for row in rows if row.get("flops_note")]
    return "\n\n".join(
        (
            "# Benchmark",
            "Written by `make bench`; the numbers are in [bench.json](bench.json). " + table.machine(document),
            table.limits(document),
            table.paths(document),
            "![Times, memory and growth with the length](bench.png)",
            "## Bars",
            table.markdown(table.BARS, table.bars(document)),
            "## Every way",
            HOW,
            table.markdown(table.WAYS, table.ways(document)),
            "## Notes",
            "\n".join(notes),
        )
    ) + "\n"  # fmt: skip


def _about(row: dict[str, Any]) -> str:
    """The inputs' sizes, and what is said of the case."""
    sizes = ", ".join(f"{name} {count}" for name, count in row["size"].items() if name != "whole")
    return "; ".join(filter(None, (sizes, row["note"])))


HOW = (
    "Time: median of interleaved calls on the same inputs (round-robin), with quartiles; before each turn but the "
    "first, as much fresh memory as the way took before is touched and freed, untimed, because a virtual machine's "
    "host may take ten times as long to find a page as the system takes to hand it out. Error: the largest difference "
    "from a float64 reference, relative to its largest entry, checked before anything is timed; a row in which one way "
    "is wrong shows no speed. Memory: what one call adds at its peak in a process of its own, without the result (bars "
    "in MiB are about both); not measured for ways of more than 9 s a call that no bar on memory is about. Of GEMM: "
    "flops a second over those of a float32 matrix product of 1024 in the same rounds. Exponent: least squares of log "
    "time on log L."
)
