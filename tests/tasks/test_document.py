"""docs/tasks.md is what ``mixerlens tasks --markdown`` prints."""

from __future__ import annotations

import json
from pathlib import Path

from mixerlens import tasks
from mixerlens.tasks import document

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"


def test_the_page_is_generated():
    assert document.markdown() == PAGE.read_text(encoding="utf-8")


def test_every_task_and_preset_has_a_row():
    found = json.loads(json.dumps(document.rows()))
    assert [(row["name"], row["preset"]) for row in found] == [(n, p) for n in tasks.TASKS for p in tasks.PRESETS]
    for row in found:
        assert row["chance"] == tasks.make(row["name"], row["preset"]).chance.value
