"""The page of the principles says what the records and the command say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mixerlens import principles
from mixerlens.errors import InputError
from mixerlens.principles.document import COMMAND, RECORDS, markdown, output, renewed

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "principles.md"
ROUNDING = re.compile(r"\b\d\.\de-1[45]\b")  # another one on every kind of processor


def quoted(page: str) -> str:
    return page.split("```text\n")[1].split("\n```")[0]


def test_the_page_is_what_the_records_say():
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page, quoted(page)) == page, "renew it: python -m mixerlens.principles.document docs/principles.md"
    assert f"    {COMMAND}\n" in page


def test_every_measure_has_a_section_with_its_counter_cases():
    text = markdown()
    assert len(RECORDS) == len(principles.MEASURES)
    for record in RECORDS:
        assert record.theorem in text and record.wording in text and record.counterexamples
        for example in record.counterexamples:
            assert f"```python\n{example.code.rstrip()}\n```" in text


@pytest.mark.slow
def test_the_quoted_tables_are_what_the_command_prints(monkeypatch):
    monkeypatch.chdir(ROOT)
    got, want = (ROUNDING.sub("rounding", text) for text in (output(), quoted(PAGE.read_text(encoding="utf-8"))))
    assert got == want


def test_a_page_without_marks_is_refused():
    with pytest.raises(InputError, match="needs the lines"):
        renewed("# A page", "")
