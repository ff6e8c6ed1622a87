"""Pictures of the study say the numbers that are stored, for the committed study and for parts of it."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from mixerlens.reproduce import page
from mixerlens.reproduce.figures import figures
from mixerlens.reproduce.verdicts import verdicts

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def committed():
    return json.loads((DOCS / "explicit-operator.json").read_text())


def titles(document: dict, heading: str) -> dict[str, str]:
    found = [re.findall(r"<title>([^<]*)</title>", svg) for svg, _ in figures(document)[heading]]
    return dict(unescape(each).split(": ", 1) for some in found for each in some)


def test_every_picture_stands_below_a_heading_of_the_page(committed):
    headings = [line.lstrip("# ") for line in page.markdown(committed).splitlines() if line.startswith("#")]
    found = figures(committed)
    assert set(found) <= set(headings) and len(found) == 5
    html = page.html(committed)
    assert html.count("<svg ") == html.count("<figure ") == sum(map(len, found.values()))


def test_accuracies_are_means_of_stored_scores(committed):
    said = titles(committed, "Trained classifiers and their controls")
    for data, name in (("digits", "Handwritten digits 8 x 8"), ("OSULeaf", "OSU leaf")):
        for variant in ("full", "identity"):
            scores = [run["test"]["score"] for run in committed["tables"]["sets"][data][variant].values()]
            mean = 100 * sum(right / total for right, total in scores) / len(scores)
            assert said[f"{name}, {variant}"].startswith(f"{mean:.1f} %, {len(scores)} seeds")


def test_differences_are_those_of_the_verdicts(committed):
    said = titles(committed, "Where the claim holds")
    (svg, _), *_ = figures(committed)["Where the claim holds"]
    hollow = 0
    for each in verdicts(committed["tables"]["sets"]):
        name = committed["sets"][each.data]["title"].split(":")[0].replace(",", "")
        for reading in ("identity", "raw sequence", "identity, last step"):
            found = each.differences[f"best - {reading}"]
            if found is not None:
                text = said[f"{name}, less {reading}"]
                assert text.startswith(f"{100 * found.mean:+.1f} points") and f"{100 * found.high:+.1f}" in text
                hollow += each.says(f"best - {reading}") == "no difference"
    assert svg.count("hollow") == hollow


def test_a_study_with_one_table_has_its_picture_alone(committed):
    part = committed | {"tables": {"orders": committed["tables"]["orders"]}}
    assert list(figures(part)) == ["What each order sees, without training"]
    assert page.html(part).count("<svg ") == 1
    assert figures(committed | {"tables": {}}) == {} and "<svg" not in page.html(committed | {"tables": {}})


def test_hostile_titles_stay_text(committed):
    sets = committed["sets"] | {"digits": committed["sets"]["digits"] | {"title": "<script>alert(1)</script>"}}
    html = page.html(committed | {"sets": sets})
    assert "<script" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
