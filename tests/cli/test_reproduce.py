"""``mixerlens reproduce``: its list, a run that is interrupted and goes on, its page, its errors."""

from __future__ import annotations

import json
from functools import partial

import pytest

from mixerlens.reproduce import seen

RUN = ("reproduce", "explicit-operator", "--only", "orders", "--seeds", "0,1")


@pytest.fixture
def small(monkeypatch):
    """The table without training, with sizes that take no time."""
    monkeypatch.setattr(seen, "Sizes", partial(seen.Sizes, time=16, train=40, test=40, systems=8, modes=4))


def test_the_list_names_tables_sets_and_what_is_stored(mixerlens, tmp_path, small):
    found = mixerlens("reproduce", "explicit-operator", "--list", "--json", "-o", tmp_path)
    assert found.exit_code == 0
    rows = {row["table"]: row for row in json.loads(found.stdout)}
    assert rows.keys() == {"orders", "sets", "rings"} and rows["orders"]["cells"] == 40
    assert len(rows["sets"]["sets"]) >= 5 and all(row["stored"] == 0 for row in rows.values())
    assert mixerlens(*RUN, "-o", tmp_path).exit_code == 0
    again = json.loads(mixerlens("reproduce", "explicit-operator", "--list", "--json", "-o", tmp_path).stdout)
    assert [row["stored"] for row in again] == [4, 0, 0]
    assert "orders" in mixerlens("reproduce", "-o", tmp_path).stdout


def test_an_interrupted_run_exits_with_130_and_the_next_one_goes_on(mixerlens, tmp_path, small, monkeypatch):
    calls, compute = [], seen.draw

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 3:  # training and test sequences of the first cell, then the second cell
            raise KeyboardInterrupt
        return compute(*given)

    monkeypatch.setattr(seen, "draw", interrupted)
    found = mixerlens(*RUN, "-o", tmp_path)
    assert found.exit_code == 130
    assert found.stderr.strip().startswith("mixerlens: interrupted: 1 of 4 cells are stored in ")
    assert str(tmp_path / "explicit-operator" / "quick") in found.stderr and "the same command goes on" in found.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["random S4D-Lin-0.json"]
    stored = files[0].read_bytes()
    found = mixerlens(*RUN, "-o", tmp_path, "--json")
    assert found.exit_code == 0 and len(calls) == 3 + 2 * 3  # three cells were left
    assert files[0].read_bytes() == stored
    document = json.loads(found.stdout)
    assert document["missing"] == [] and document["cells"] == 4
    assert document["tables"]["orders"]["mean"]["random S4D-Lin"].keys() == {"0", "1"}


def test_the_page_and_its_numbers_name_what_was_not_run(mixerlens, tmp_path, small):
    page = tmp_path / "page.md"
    found = mixerlens(*RUN, "-o", tmp_path / "cells", "--page", page)
    assert found.exit_code == 0
    document = json.loads(page.with_suffix(".json").read_text())
    assert document["cells"] > 200 and len(document["missing"]) == document["cells"] - 4
    text = page.read_text()
    assert "order 2, i != j" in text and "Not run, or not finished" in text
    assert "rings, rate 0.001: digits, JapaneseVowels (seeds 0, 1, 2)" in text
    assert "orders, random S4D-Lin: autocorrelation, mean (seeds 2, 3, 4," in text
    assert f"4 of {document['cells']} cells" in text


def test_a_part_of_the_study_is_shown_as_its_tables_alone(mixerlens, tmp_path, small):
    found = mixerlens(*RUN, "-o", tmp_path, columns=400)
    assert found.exit_code == 0 and found.stdout.startswith("## What each order sees")
    assert "What this does not say" not in found.stdout and "Not run" not in found.stdout
    assert "4 of 4 cells are stored in" in found.stdout.splitlines()[-1]
    whole = mixerlens("reproduce", "explicit-operator", "--stored", "-o", tmp_path, columns=400)
    assert whole.exit_code == 0 and "# Do interactions" in whole.stdout and "What this does not say" in whole.stdout


def test_the_report_is_the_same_page_with_pictures(mixerlens, tmp_path, small):
    report = tmp_path / "study.html"
    found = mixerlens(*RUN, "-o", tmp_path / "cells", "--report", report, columns=400)
    assert found.exit_code == 0 and found.stdout.splitlines()[-1].endswith(f"; report: {report}")
    text = report.read_text()
    assert text.startswith("<!DOCTYPE html>") and text.count("<svg ") == 1 and "<script" not in text
    assert "sets, full: digits" in text  # of the whole study, as the page
    found = mixerlens(*RUN, "-o", tmp_path / "cells", "--report", "/nowhere/study.html")
    assert found.exit_code == 2 and "does not exist" in found.stderr


def test_a_page_with_more_than_is_stored_is_not_replaced(mixerlens, tmp_path, small):
    page = tmp_path / "page.md"
    assert mixerlens(*RUN, "-o", tmp_path / "cells", "--page", page).exit_code == 0
    before = [path.read_bytes() for path in (page, page.with_suffix(".json"))]
    found = mixerlens("reproduce", "explicit-operator", "--stored", "-o", tmp_path / "empty", "--page", page)
    assert found.exit_code == 2
    assert "page.json has 4 cells that" in found.stderr and "write the page to another file" in found.stderr
    assert [path.read_bytes() for path in (page, page.with_suffix(".json"))] == before
    assert mixerlens(*RUN, "-o", tmp_path / "cells", "--stored", "--page", page).exit_code == 0


def test_where_nothing_is_stored_there_is_nothing_to_show(mixerlens, tmp_path):
    found = mixerlens("reproduce", "explicit-operator", "--stored", "-o", tmp_path / "empty")
    assert (found.exit_code, found.stdout) == (2, "")
    assert (
        found.stderr.strip()
        == f"mixerlens: no cell of this study is stored in {tmp_path}/empty/explicit-operator/quick"
    )


def test_what_is_stored_is_shown_without_computing(mixerlens, tmp_path, small, monkeypatch):
    assert mixerlens(*RUN, "-o", tmp_path).exit_code == 0
    monkeypatch.setattr(seen, "draw", None)
    found = mixerlens("reproduce", "explicit-operator", "--only", "orders", "-o", tmp_path, "--stored", "--json")
    document = json.loads(found.stdout)
    assert found.exit_code == 0 and document["cells"] == 40 and len(document["missing"]) == 36


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reproduce", "implicit"), "'implicit' is no study"),
        (("reproduce", "implicit", "--list"), "'implicit' is no study"),
        (("reproduce", "--list", "--scale", "huge"), "--scale huge: choose from quick, full"),
        (("reproduce", "explicit-operator", "--only", "nothing"), "'nothing' is no table"),
        (("reproduce", "explicit-operator", "--scale", "huge"), "'huge' is no scale"),
        (("reproduce", "explicit-operator", "--sets", "cifar"), "'cifar' is no set of scale quick"),
        (("reproduce", "explicit-operator", "--sets", "GunPoint"), "'GunPoint' is no set of scale quick"),
        (("reproduce", "explicit-operator", "--seeds", "a"), "--seeds a"),
        (("reproduce", "explicit-operator", "--seeds", "1,1"), "seeds must be different"),
        (("reproduce", "explicit-operator", "--page", "/nowhere/page.md"), "does not exist"),
    ],
)
def test_bad_input_is_one_line(mixerlens, tmp_path, arguments, said):
    found = mixerlens(*arguments, "-o", tmp_path)
    assert found.exit_code == 2 and said in found.stderr and found.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_missing_data_name_the_command_before_anything_runs(mixerlens, tmp_path):
    found = mixerlens("reproduce", "explicit-operator", "--only", "sets", "-o", tmp_path / "o", "--data", tmp_path)
    assert found.exit_code == 2 and "`make data`" in found.stderr and not (tmp_path / "o").exists()
