"""``mixerlens reproduce principles``, with models and tasks small enough to train in a second."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mixerlens.reproduce.principles import tables

RUN = ("reproduce", "principles", "--only", "readout,spectrum", "--seeds", "0")


@pytest.fixture
def tiny(monkeypatch):
    """Two tasks, one mixer of each table."""
    quick = tables.SCALES["quick"]
    tasks = {
        "mqar": ("mqar", {"vocabulary": 8, "length": 8, "pairs": 2, "examples": None}),
        "selective copying": ("selective_copying", {"length": 9, "copied": 2, "examples": None}),
        "delay line": ("delay", {"vocabulary": 4, "length": 8, "delay": 2}),
        "recall": ("recall", {"length": 8, "examples": None}),
    }
    small = replace(quick, features=8, dim=2, width=4, batch=64, steps=dict.fromkeys(quick.steps, 3), tasks=tasks)
    monkeypatch.setitem(tables.SCALES, "quick", small)
    for make in ("readouts", "spectra"):
        given = getattr(tables.mixers, make)
        monkeypatch.setattr(tables.mixers, make, lambda *sizes, given=given: dict(list(given(*sizes).items())[:1]))


def test_a_part_is_run_stored_and_shown(mixerlens, tmp_path, tiny):
    found = mixerlens(*RUN, "-o", tmp_path, columns=400)
    assert found.exit_code == 0, found.stderr
    assert "## Which phi recalls and copies?" in found.stdout and "**too few models**" in found.stdout
    assert found.stdout.splitlines()[-1].startswith("4 of 4 cells are stored in ")
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json"))
    assert files == [
        "principles/quick/readout/mqar/identity-0.json",
        "principles/quick/readout/selective copying/identity-0.json",
        "principles/quick/spectrum/delay line/scalar, 2-0.json",
        "principles/quick/spectrum/recall/scalar, 2-0.json",
    ]
    kept = [(tmp_path / name).read_bytes() for name in files]
    document = json.loads(mixerlens(*RUN, "-o", tmp_path, "--json").stdout)
    assert [(tmp_path / name).read_bytes() for name in files] == kept  # nothing is run twice
    run = document["tables"]["spectrum"]["delay line"]["scalar, 2"]["0"]
    assert run["status"] == "finished" and 0 < run["eigenvalues"]["median"] < 1
    assert document["recipes"]["readout"]["mqar"]["steps"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scale", "full"), "'full' is no scale of this study; choose from quick, paper"),
        (("--only", "nothing"), "choose from readout, evolution, scaling, normalizer, spectrum"),
        (("--sets", "digits"), "'digits' is no set of scale quick of this study; it has none, all is drawn"),
    ],
)
def test_bad_input_is_one_line(mixerlens, tmp_path, arguments, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = mixerlens("reproduce", "principles", *arguments, "-o", tmp_path / "cells")
    assert found.exit_code == 2 and said in found.stderr and found.stderr.count("\n") == 1


def test_the_list_has_each_study_at_its_own_scales(mixerlens, tmp_path):
    rows = json.loads(mixerlens("reproduce", "--list", "--scale", "paper", "--json", "-o", tmp_path).stdout)
    assert {row["study"] for row in rows} == {"principles"}
    assert [row["table"] for row in rows] == ["readout", "evolution", "scaling", "normalizer", "spectrum"]
    rows = json.loads(mixerlens("reproduce", "--list", "--json", "-o", tmp_path).stdout)
    assert {row["study"] for row in rows} == {"explicit-operator", "principles", "search"}
