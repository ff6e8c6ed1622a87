"""The page is a function of stored numbers: its answer, and what it says of a run that is not finished."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mixerlens.design.files import from_text
from mixerlens.reproduce.search import page
from mixerlens.reproduce.search.families import families
from mixerlens.reproduce.search.figures import figures
from mixerlens.reproduce.search.results import judged
from mixerlens.reproduce.search.space import draw
from mixerlens.reproduce.search.tables import DRAW, FINAL, SCALES
from mixerlens.reproduce.store import Cell
from mixerlens.reproduce.study import STUDIES, document

STUDY = STUDIES["search"]
pytestmark = pytest.mark.usefixtures("small")


def made(cell: Cell, share: float) -> dict:
    result = {
        "status": "finished",
        "steps_done": 100,
        "outcome": {"correct": round(1000 * share), "total": 1000},
        "chance": 0.2,
        "parameters": 12345,
        "state_bytes": 16384,
    }
    return cell.key | {"result": result, "versions": {"torch": "2"}, "seconds": 1.0, "cpu_seconds": 6.0}


def told(share, upto: int | None = None) -> dict:
    """A document of a run with these accuracies, the first ``upto`` cells of it."""
    stored: dict[str, dict] = {}
    cells = STUDY.cells("quick")
    for _ in range(3):
        for cell in cells[:upto]:
            if cell.compute is not None:
                stored.setdefault(cell.name, made(cell, share(cell)))
        cells = STUDY.cells("quick", get=lambda cell: stored.get(cell.name))
    return document("search", "quick", cells, [stored[cell.name] for cell in cells if cell.name in stored])


@pytest.fixture(scope="module")
def noise():
    generator = np.random.default_rng(0)
    return lambda cell: generator.uniform(-0.01, 0.01)


@pytest.mark.parametrize(
    ("ours", "said"), [(0.9, "**The search succeeded**: candidate 01"), (0.3, "**The search failed**: candidate 01")]
)
def test_the_answer_is_that_of_the_numbers(noise, ours, said):
    found = told(lambda cell: (0.6 if cell.variant in families() else ours) - 0.05 * (cell.variant != "candidate 01"))
    answer = judged(found)
    assert answer is not None and answer[0] == "candidate 01"
    noisy = told(lambda cell: (0.6 if cell.variant in families() else ours) + noise(cell))
    text = page.markdown(noisy)
    assert said.partition(":")[0] in text and "Not run" not in text
    assert f"{noisy['cells']} of {noisy['cells']} cells are there;" in text.replace("\n", " ")
    assert said in page.markdown(found)
    assert text.count("| beaten |") == (SCALES["quick"].finalists if ours > 0.6 else 0)
    for name in STUDY.tables.values():
        assert f"## {name.title}" in text
    assert max(map(len, (line for line in text.splitlines() if not line.startswith("|")))) <= 130


def test_the_winner_is_there_to_be_used_and_where_it_wins():
    """One point is one of a hundred answers; the specification on the page is the one that was trained."""
    better = {"mqar": 0.3, "parity": -0.1}
    found = told(lambda cell: 0.5 + (0 if cell.variant in families() else better.get(cell.data, 0.2)))
    text = page.markdown(found)
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    (candidate, comparisons), drawn = judged(found), draw(SCALES["quick"].candidates, DRAW)
    assert from_text(yaml) == drawn.specs[candidate]
    for each in comparisons:
        row = next(
            line for line in text.splitlines() if line.startswith(f"| {each.family} | {each.difference.mean:+.3f}")
        )
        assert row.endswith(" | +30.0 | +20.0 | -10.0 |")


def test_every_picture_stands_below_a_heading_and_says_the_numbers_of_the_page():
    found = told(lambda cell: (0.6 if cell.variant in families() else 0.9) + 0.001 * cell.seed)
    text, drawn = page.markdown(found), figures(found)
    assert set(drawn) == {"The answer", *(table.title for table in STUDY.tables.values())}
    assert all(f"## {heading}" in text for heading in drawn)
    (svg, _), *_ = drawn["The answer"]
    answer = judged(found)
    assert answer is not None and len(answer[1]) == 2
    for each in answer[1]:
        said = f"{each.family}, candidate 01 less: {each.difference.mean:+.3f}"
        assert said in svg and f"| {each.family} | {each.difference.mean:+.3f} " in text
    assert page.html(found).count("<svg ") == 4


def test_scores_and_accuracies_are_shown_as_they_are():
    found = told(lambda cell: 0.6 if cell.data == "mqar" else 0.2)
    row = next(line for line in page.brief(found).splitlines() if line.startswith("| linear_attention | 0.167 |"))
    assert row.split(" | ")[2:] == ["60.0", "20.0", "20.0", "12,345", "16,384", "60 |"]


def test_an_unfinished_run_is_not_decided_and_says_what_is_missing():
    first = len(STUDY.cells("quick", ["first"]))
    text = page.markdown(told(lambda cell: 0.5, first - 1))
    assert "**Not decided**" in text and "final, candidate 1 of rung second: mqar, selective copying, parity" in text
    assert "first, candidate 05: parity (seeds 1)" in text
    empty = document("search", "quick", STUDY.cells("quick"), [])
    assert judged(empty) is None and page.brief(empty) == "" and "**Not decided**" in page.markdown(empty)
    most = told(lambda cell: 0.5)
    most["missing"] = [f"{FINAL}/mqar/candidate 01-15"]
    assert judged(most) is None


def test_every_draw_every_part_and_every_family_left_out_is_on_the_page():
    text = page.markdown(document("search", "quick", STUDY.cells("quick"), []))
    for words in ("Refused: ", "| candidate 05 |", "rwkv4", "softmax_attention", "rwkv7"):
        assert words in text
