"""The documentation's page of the principles, renewed from what the records themselves say.

python -m mixerlens.principles.document docs/principles.md        in the folder that holds specimens/
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mixerlens.errors import InputError
from mixerlens.files import write_whole
from mixerlens.principles.dsf import Dsf
from mixerlens.principles.eigenvalues import Eigenvalues
from mixerlens.principles.normalization import NormalizationPrinciple
from mixerlens.principles.position import PositionPrinciple
from mixerlens.principles.readout import ReadoutPrinciple
from mixerlens.principles.record import Principle
from mixerlens.principles.retention import Retention
from mixerlens.principles.scaling import ScalingPrinciple
from mixerlens.principles.selectivity import SelectivityPrinciple
from mixerlens.principles.structure import StructurePrinciple

RECORDS: tuple[type[Principle], ...] = (
    ReadoutPrinciple, SelectivityPrinciple, PositionPrinciple, StructurePrinciple, ScalingPrinciple,
    NormalizationPrinciple, Retention, Dsf, Eigenvalues,
)  # fmt: skip
COMMAND = (
    "mixerlens principles specimens/jamba-bytes --input specimens/text/held-out.txt --length 256 "
    "--only readout,position,eigenvalues"
)


def markdown() -> str:
    """Wording, theorem, what is measured and every counter-case, a section a record."""
    return "\n\n".join(_section(record) for record in RECORDS) + "\n"


def _section(record: type[Principle]) -> str:
    title = f"### {record.number}. {record.title}" if record.number else f"### {record.title}"
    measured = "\n".join(
        f"| `{name}` | {text} | {record.units.get(name, '')} |" for name, text in record.labels.items()
    )
    parts = [
        title,
        f"> {record.wording}",
        f"**What is true.** {record.theorem} ({', '.join(record.sources)})",
        f"| measured | what it is | unit |\n|---|---|---|\n{measured}",
    ]
    for example in record.counterexamples:
        parts += [f"*Against “{example.against}”* {example.shows}", f"```python\n{example.code.rstrip()}\n```"]
    return "\n\n".join(parts)


def output() -> str:
    """The tables that the page quotes, as the command prints them, without the words under them."""
    command = [sys.executable, "-m", "mixerlens", *COMMAND.split()[1:]]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    if run.returncode:
        raise InputError(f"{COMMAND}: {run.stderr.strip()}")
    lines, shown = [], True
    for line in run.stdout.splitlines():
        shown = False if line.startswith("wording: ") else shown or not line
        if shown:
            lines.append(line.rstrip())
    return "\n".join(lines).strip()


def renewed(page: str, quoted: str | None = None) -> str:
    """The page with its two parts between marks made anew: what the command prints, and what the records say.

    quoted: ``output()``, run here where left out. Raises InputError for a page without the marks.
    """
    parts = {"output": lambda: f"    {COMMAND}\n\n```text\n{output() if quoted is None else quoted}\n```\n",
             "records": markdown}  # fmt: skip
    for name, make in parts.items():
        start, end = f"<!-- {name}: renewed by python -m mixerlens.principles.document -->", f"<!-- end of {name} -->"
        if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
            raise InputError(f"the page needs the lines {start!r} and {end!r}, once each and in this order")
        page = f"{page.split(start)[0]}{start}\n\n{make()}\n{end}{page.split(end)[1]}"
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_whole(path, renewed(path.read_text(encoding="utf-8")))
