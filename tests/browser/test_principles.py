"""The principles of a report in a real headless Chromium: drawn at every width, legible, and silent."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from example import HOSTILE, certificate, trace

from browser.watched import Watched
from mixerlens import report

pytestmark = pytest.mark.browser

LAYERS = [("softmax_attention", 2, 8), ("mamba", 20, 8), ("s4d", 3, 4), ("gated_delta_net", 2, 4)]
FIGURES = ["readout", "selectivity", "position", "structure", "scaling", "normalization", "retention", "eigenvalues"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("principles")
    hostile = trace(LAYERS[:2], 40, ["In", HOSTILE])
    hostile.mixers[f"{HOSTILE}.0"] = hostile.mixers.pop(next(iter(hostile.mixers)))
    many = [("softmax_attention", 1, 4), ("mamba", 2, 4)] * 14
    return {
        "four": report.write(trace(LAYERS, 60, ["In", " God"]), certificate(), folder / "four.html"),
        "many": report.write(trace(many, 24, ["In"]), None, folder / "many.html"),
        "hostile": report.write(hostile, None, folder / "hostile.html", title=HOSTILE),
    }


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (800, "dark"), (390, "light"), (390, "dark")])
def test_every_figure_is_drawn_in_letters_of_one_size(browser, files, width, scheme):
    size = "e => 11 * e.getBoundingClientRect().width / e.viewBox.baseVal.width"
    with Watched(browser, files["four"], width, scheme) as w:
        for name in FIGURES:
            drawn = w.page.locator(f"[data-principle={name}] svg")
            assert drawn.count() == 1, name
            assert 9.5 <= drawn.evaluate(size) <= 14, name
            marks = drawn.locator(".layer-line, .head-mark").count()
            assert marks >= (3 if name == "scaling" else 4), name  # S4D's keys are the same at every token
            assert drawn.get_attribute("aria-label")
        assert w.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        # kinds are told apart by dashes as well as by colour
        dashes = {
            kind: w.page.locator(f"[data-principle=retention] .layer-line.{kind}").first.evaluate(
                "e => getComputedStyle(e).strokeDasharray"
            )
            for kind in ("attention", "recurrent", "convolution")
        }
        assert len(set(dashes.values())) == 3
        w.quiet()


def test_names_of_lines_do_not_lie_on_each_other(browser, files):
    with Watched(browser, files["four"]) as w:
        for name in ("readout", "retention"):
            boxes = w.page.locator(f"[data-principle={name}] text.name").all()
            tops = sorted(box.bounding_box()["y"] for box in boxes)
            assert len(tops) == 4 and all(b - a > 9 for a, b in pairwise(tops))


def test_a_line_lies_where_its_numbers_are(browser, files):
    """The rank of a softmax head over the last length, read back from the figure's own axis."""
    with Watched(browser, files["four"]) as w:
        script = """() => {
            const spec = JSON.parse(document.getElementById('pictures').textContent).principles.normalization;
            const svg = document.querySelector('[data-principle=normalization] svg');
            const pairs = (e) => e.getAttribute('d').match(/[\\d.]+ [\\d.]+/g).map((p) => p.split(' ').map(Number));
            const line = pairs(svg.querySelectorAll('.layer-line')[0]);
            const ticks = [...svg.querySelectorAll('path.hair')].map((e) => pairs(e)[0][1]);
            const names = [...svg.querySelectorAll('text[text-anchor=end]')].map((e) => Number(e.textContent));
            return { line, ticks, names, middle: spec.lines[0].middle }; }"""
        found = w.page.evaluate(script)
        one = found["ticks"][found["names"].index(1)]  # softmax rows have mass 1
        assert all(abs(y - one) <= 0.2 for _, y in found["line"])
        assert found["middle"] == pytest.approx([1] * len(found["middle"]), rel=1e-3)


def test_details_open_and_code_is_there(browser, files):
    with Watched(browser, files["four"], 390) as w:
        case = w.page.locator("#principle-readout details.case").first
        case.locator("summary").click()
        assert "state_rank" in case.locator("pre").inner_text()
        assert case.locator("pre").evaluate("e => e.scrollWidth >= e.clientWidth && e.clientWidth < 390")
        w.page.locator("#principle-readout summary", has_text="Conditions").click()
        assert "does not hold" in w.page.locator("#principle-readout .holds").inner_text()
        w.page.locator("nav.top a[href='#principles']").click()
        assert w.page.evaluate("Math.abs(document.getElementById('principles').getBoundingClientRect().top) < 200")
        w.quiet()


def test_many_layers_and_hostile_names(browser, files):
    for name in ("many", "hostile"):
        with Watched(browser, files[name], 390) as w:
            assert w.page.locator("[data-principle] svg").count() == len(FIGURES)
            assert w.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            w.quiet()


def test_it_is_drawn_anew_at_another_width(browser, files):
    with Watched(browser, files["four"], 1400) as w:
        before = w.page.locator("[data-principle=readout]").get_attribute("data-wide")
        w.page.set_viewport_size({"width": 420, "height": 900})
        w.page.wait_for_function(
            f"() => document.querySelector('[data-principle=readout]').dataset.wide !== '{before}'"
        )
        assert w.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
