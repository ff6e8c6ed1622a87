"""The study's page in a browser: silent, readable at every width, in both colour schemes, and with the keyboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from browser.watched import Watched
from mixerlens.reproduce import page

pytestmark = pytest.mark.browser

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    found = json.loads((DOCS / "explicit-operator.json").read_text())
    found["sets"]["digits"]["title"] = "<img src=x onerror=alert(1)>"
    path = tmp_path_factory.mktemp("study") / "study.html"
    path.write_text(page.html(found))
    return path


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_it_is_whole_silent_and_no_wider_than_the_window(browser, file, width, scheme):
    with Watched(browser, file, width, scheme) as w:
        assert w.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert w.page.locator("svg").count() == 5 and w.page.locator("script, img").count() == 0
        assert "<img src=x onerror=alert(1)>" in w.page.locator("main").inner_text()
        size = "e => 11 * e.getBoundingClientRect().width / e.viewBox.baseVal.width"
        assert all(10.5 <= svg.evaluate(size) <= 13 for svg in w.page.locator("svg").all())
        w.quiet()


def test_marks_can_be_told_apart_from_the_ground_and_text_stays_inside(browser, file):
    inside = """svg => [...svg.querySelectorAll("text")].every((text) => {
      const box = text.getBBox(), frame = svg.viewBox.baseVal;
      return box.x >= -0.5 && box.x + box.width <= frame.width + 0.5 && box.y + box.height <= frame.height + 1;
    })"""
    for scheme in ("light", "dark"):
        with Watched(browser, file, 1440, scheme) as w:
            assert all(svg.evaluate(inside) for svg in w.page.locator("svg").all())
            colours = w.page.evaluate(
                "() => ['one', 'two', 'three', 'four', 'five', 'six'].map("
                "(name) => getComputedStyle(document.querySelector(`.mark.${name}`)).fill)"
            )
            assert len(set(colours)) == 6
            ground = w.page.evaluate("() => getComputedStyle(document.querySelector('figure')).backgroundColor")
            assert ground not in colours


def test_wide_tables_scroll_with_the_keyboard_and_links_lead_to_their_parts(browser, file):
    with Watched(browser, file, 390) as w:
        box = w.page.locator(".scroll:has(table)").nth(1)
        box.focus()
        w.page.keyboard.press("ArrowRight")
        w.page.wait_for_function("e => e.scrollLeft > 0", arg=box.element_handle())
        for link in w.page.locator("nav.top a").all():
            target = link.get_attribute("href")
            assert target is not None and w.page.locator(target).count() == 1
        w.quiet()
