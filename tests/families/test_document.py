"""docs/families.md is what ``mixerlens families --markdown`` prints, apart from the last digits of rounding errors."""

from __future__ import annotations

import re
from pathlib import Path

from mixerlens import families
from mixerlens.families import document

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"
ERROR = re.compile(r"(?<=\| )\d(?:e[-+]\d\d)(?= \|)")


def test_the_page_is_generated():
    """Every word of it; errors differ from machine to machine and stay below their bar."""
    printed, stored = document.markdown(families.measure()), PAGE.read_text(encoding="utf-8")
    assert ERROR.sub("error", printed) == ERROR.sub("error", stored)
    errors = [float(x) for x in ERROR.findall(stored)]
    assert len(errors) == len(families.FAMILIES)
    assert max(errors) <= 1e-9


def test_a_bar_in_a_cell_does_not_end_it():
    (row,) = families.measure(["mamba"])
    text = document.markdown([type(row)(**{**row.to_json(), "normalizer": "max(|sum|, 1)"})])
    line = next(line for line in text.splitlines() if line.startswith("| Mamba-1"))
    assert "max(\\|sum\\|, 1)" in line
    assert len(re.split(r"(?<!\\)\|", line)) == 13
