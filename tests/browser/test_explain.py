"""The explanation of a classifier's answer in a browser: both maps, one chosen pair, by pointer and by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import mixerlens as ml
from browser.watched import Watched
from mixerlens import report
from mixerlens.models.s4d import S4DClassifier, S4DConfig
from mixerlens.report.data import gather

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def traced():
    torch.manual_seed(0)
    model = S4DClassifier(S4DConfig(channels=1, classes=3, features=6, modes=4, layers=1)).eval()
    return ml.open(model).trace(torch.randn(1, 48, 1))


@pytest.fixture(scope="module")
def files(traced, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("explain")
    broken = traced.lens.trace(traced.inputs.clone())
    broken.inputs[0, 3, 0] = torch.nan
    return {
        "whole": report.write(traced, None, folder / "whole.html"),
        "refused": report.write(broken, None, folder / "refused.html"),
    }


def chosen(w: Watched) -> list[int]:
    return [int(each) for each in (w.page.locator(".why").get_attribute("data-chosen") or "").split(",")]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_everything_is_drawn(browser, files, width, scheme):
    script = "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return new Set(d).size; }"
    with Watched(browser, files["whole"], width, scheme) as w:
        w.page.wait_for_selector(".why[data-ready]")
        assert all(canvas.evaluate(script) > 20 for canvas in w.page.locator(".why canvas").all())
        charts = w.page.locator("[data-segments] svg")
        size = "e => 11 * e.getBoundingClientRect().width / e.viewBox.baseVal.width"
        assert charts.count() == 4 and all(10.5 <= chart.evaluate(size) <= 13 for chart in charts.all())
        assert w.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        w.quiet()


def test_the_keyboard_is_enough_and_both_maps_follow(browser, files, traced):
    data = gather(traced, None).explain
    assert data is not None and data.picture is not None
    pairs, synergy = data.picture["pairs"], data.picture["synergy"]
    with Watched(browser, files["whole"]) as w:
        w.page.wait_for_selector(".why[data-ready]")
        g, h = chosen(w)
        strongest = max((abs(pairs[i][j]), i, j) for i in range(32) for j in range(i + 1, 32))
        assert abs(pairs[g][h]) == strongest[0]
        canvas = w.page.locator("canvas[data-pairs=pairs]")
        canvas.focus()
        before = [each.evaluate("c => c.toDataURL()") for each in w.page.locator(".why canvas").all()]
        for key, move in (("ArrowDown", (1, 0)), ("ArrowRight", (0, 1)), ("ArrowUp", (-1, 0)), ("ArrowLeft", (0, -1))):
            at = chosen(w)
            w.page.keyboard.press(key)
            want = [min(31, max(0, at[0] + move[0])), min(31, max(0, at[1] + move[1]))]
            assert chosen(w) == want, key
        w.page.keyboard.press("Home")
        assert chosen(w) == [g, h]
        for _ in range(3):
            w.page.keyboard.press("ArrowUp")
        after = [each.evaluate("c => c.toDataURL()") for each in w.page.locator(".why canvas").all()]
        assert all(a != b for a, b in zip(before, after, strict=True))
        at = chosen(w)
        said = w.page.locator(".why .readout").inner_text()
        if at[0] != at[1]:
            numbers = [float(word) for word in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", said.replace("\u2212", "-"))]
            assert any(number == pytest.approx(pairs[at[0]][at[1]], rel=0.051) for number in numbers), said
            assert any(number == pytest.approx(synergy[at[0]][at[1]], rel=0.051) for number in numbers), said
        w.quiet()


def test_the_pointer_chooses_the_cell_below_it(browser, files):
    with Watched(browser, files["whole"]) as w:
        w.page.wait_for_selector(".why[data-ready]")
        canvas = w.page.locator("canvas[data-pairs=synergy]")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        frame = canvas.evaluate("c => c.frame")
        x = box["x"] + frame["left"] + frame["side"] * 10.5 / 32
        y = box["y"] + frame["top"] + frame["side"] * 20.5 / 32
        w.page.mouse.move(x, y)
        assert chosen(w) == [20, 10]
        w.page.mouse.move(box["x"] + 2, box["y"] + 2)  # beside the map: the choice stays
        assert chosen(w) == [20, 10]
        assert w.page.locator("[data-segments] svg").first.locator("rect.chosen").count() == 2
        w.quiet()


def test_a_refusal_is_words_alone(browser, files):
    with Watched(browser, files["refused"]) as w:
        text = w.page.locator("#why").inner_text()
        assert "Not explained" in text and "NaN" in text and w.page.locator("#why canvas").count() == 0
        w.quiet()
