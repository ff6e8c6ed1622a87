"""``mixerlens reproduce search``, with a few mixers that train for two steps, from the draw to the page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mixerlens.reproduce.search import tables
from mixerlens.reproduce.search.families import families

RUN = ("reproduce", "search")


@pytest.fixture
def tiny(monkeypatch):
    """Two families and two candidates, on tasks of eight tokens."""
    few = dict(list(families().items())[:2])
    monkeypatch.setattr(tables, "families", lambda: few)
    size = replace(tables.SCALES["quick"], candidates=2, kept=2, finalists=1, short=1, steps=2)
    monkeypatch.setitem(tables.SCALES, "quick", size)
    tasks = {
        "mqar": ("mqar", {"vocabulary": 8, "length": 8, "pairs": 2, "examples": None}),
        "selective copying": ("selective_copying", {"length": 9, "copied": 2, "examples": None}),
        "parity": ("parity", {"length": 4, "test_length": 8}),
    }
    for name in tasks:
        monkeypatch.setitem(tables.TASKS, name, tasks[name])
    looks = {"looks": 1, "held": 8, "tested": 16}
    monkeypatch.setattr(tables, "LOOKS", dict.fromkeys(tables.TABLES, looks))
    monkeypatch.setattr(tables, "SHARED", replace(tables.SHARED, batch=2, tasks=tasks))


def test_the_whole_search_runs_goes_on_and_writes_its_page(mixerlens, tmp_path, tiny):
    page = tmp_path / "search.md"
    found = mixerlens(*RUN, "--only", "first", "-o", tmp_path, columns=400)
    assert found.exit_code == 0, found.stderr
    assert found.stdout.splitlines()[-1].startswith("12 of 12 cells are stored in ")
    rows = json.loads(mixerlens(*RUN, "--list", "--json", "-o", tmp_path).stdout)
    assert [(row["cells"], row["stored"]) for row in rows] == [(12, 12), (24, 0), (30, 0)]
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    found = mixerlens(*RUN, "-o", tmp_path, "--page", page, "--json")
    assert found.exit_code == 0, found.stderr
    assert all(path.read_bytes() == before for path, before in kept.items())  # nothing is run twice
    document = json.loads(found.stdout)
    assert document["missing"] == [] and document["cells"] == 66 == len(list(tmp_path.rglob("search/**/*.json")))
    assert document["tables"].keys() == {"first", "second", "final"}
    final = document["tables"]["final"]["parity"]
    assert len(final) == 2 and all(set(runs) == {"11", "12", "13", "14", "15"} for runs in final.values())
    assert json.loads(page.with_suffix(".json").read_text()) == document
    text = page.read_text()
    assert "**The search " in text and "66 of 66 cells are there" in text.replace("\n", " ")
    report = tmp_path / "search.html"
    again = mixerlens(*RUN, "--stored", "-o", tmp_path, "--report", report, columns=400)
    assert report.read_text().count("<svg ") == 4
    assert again.exit_code == 0 and "## The answer" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seeds", "0,1"), "the seeds of first are 1: which ones choose and which ones judge is fixed"),
        (("--only", "final"), "final: follows from cells that are not stored in "),
        (("--only", "third"), "choose from first, second, final"),
        (("--scale", "paper"), "'paper' is no scale of this study; choose from quick, full"),
        (("--stored",), "no cell of this study is stored in "),
    ],
)
def test_bad_input_is_one_line(mixerlens, tmp_path, arguments, said, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    found = mixerlens(*RUN, *arguments, "-o", tmp_path / "cells")
    assert found.exit_code == 2 and said in found.stderr and found.stderr.count("\n") == 1
