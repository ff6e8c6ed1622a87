"""The waves of a report in a real headless Chromium: they start still, run, stop, scrub, and send nothing."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import numpy as np
import pytest
from example import HOSTILE, certificate, trace

from browser.watched import Watched
from mixerlens import report
from mixerlens.report.data import gather

pytestmark = pytest.mark.browser

RINGS = [("s4d", 6, 16), ("mamba", 20, 8), ("softmax_attention", 1, 8)]
WORDS = ["In", HOSTILE, " God"]
BRIGHT = [253, 231, 37]  # the last of the report's colours: the largest node of a moment


def traced():
    return trace(RINGS, 60, WORDS)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("waves")
    hostile = traced()
    for path, name in zip(list(hostile.mixers), (f"{HOSTILE}.0", "<img src=x onerror=alert(2)>", "a"), strict=True):
        call = hostile.mixers.pop(path)
        hostile.mixers[name] = call
    return {
        "rings": report.write(traced(), certificate(), folder / "rings.html"),
        "hostile": report.write(hostile, None, folder / "hostile.html", title=HOSTILE),
        "none": report.write(trace([("softmax_attention", 2, 8), ("gated_delta_net", 2, 4)], 30, WORDS), None,
                             folder / "none.html"),
    }  # fmt: skip


class Player:
    """The panel of one layer, opened and drawn."""

    def __init__(self, watched: Watched, id: str = "M0W") -> None:
        self.page, self.box = watched.page, watched.page.locator(f"#{id}")
        self.box.evaluate("e => { e.open = true; }")
        self.box.scroll_into_view_if_needed()
        self.page.wait_for_selector(f"#{id}[data-ready]")
        self.button, self.slider = self.box.locator("[data-do=play]"), self.box.locator("input[type=range]")

    @property
    def moment(self) -> int:
        return int(self.box.get_attribute("data-moment") or -1)

    def moves(self, wait: int = 400) -> bool:
        before = self.moment
        self.page.wait_for_timeout(wait)
        return self.moment != before

    def go(self, moment: int) -> None:
        self.slider.evaluate(
            "(e, at) => { e.value = at; e.dispatchEvent(new Event('input', { bubbles: true })); }", str(moment)
        )

    def brightest(self, picture: str, nodes: int) -> int:
        """The node whose middle is drawn in the last colour, read from the pixels of the ring."""
        script = """(c, nodes) => {
            const r = c.width / c.clientWidth, x = c.clientWidth / 2, pen = c.getContext('2d');
            return Array.from({ length: nodes }, (_, j) => [...pen.getImageData(
                Math.round(r * (x + (x - 26) * Math.sin(2 * Math.PI * j / nodes))),
                Math.round(r * (x - (x - 26) * Math.cos(2 * Math.PI * j / nodes))), 1, 1).data].slice(0, 3)); }"""
        found = self.box.locator(f"canvas[data-ring={picture}]").evaluate(script, nodes)
        (node,) = [j for j, colour in enumerate(found) if colour == BRIGHT]
        return node


def drawn(canvas) -> bool:
    script = "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return new Set(d).size; }"
    return canvas.evaluate(script) > 20


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (800, "light"), (390, "dark")])
def test_everything_is_drawn_and_stands_still(browser, files, width, scheme):
    size = "e => 11 * e.getBoundingClientRect().width / e.viewBox.baseVal.width"
    with Watched(browser, files["rings"], width, scheme) as w:
        for id, charts in (("M0W", 3), ("M1W", 2)):  # Mamba changes with the token: no one reading of its past
            player = Player(w, id)
            canvases = player.box.locator("canvas").all()
            assert len(canvases) == 4 and all(drawn(canvas) for canvas in canvases)
            shown = player.box.locator("[data-rings] svg").all()
            assert len(shown) == charts and all(10.5 <= chart.evaluate(size) <= 13 for chart in shown)
            assert player.moment == 16 and not player.moves()
            assert player.button.inner_text() == "play"
        assert w.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert w.page.locator("nav.top a[href='#waves']").count() == 1
        w.quiet()


def test_play_runs_and_pause_stops(browser, files):
    with Watched(browser, files["rings"]) as w:
        player = Player(w)
        player.go(0)
        assert player.moment == 0
        assert (
            player.box.locator(".moment").inner_text().startswith("0.00 laps, token 0: 1 of 16 nodes carry the pulse")
        )
        player.button.click()
        assert player.button.inner_text() == "pause"
        w.page.wait_for_function("() => Number(document.getElementById('M0W').dataset.moment) >= 6")
        assert int(player.slider.input_value()) == pytest.approx(player.moment, abs=2)
        player.button.click()
        assert player.button.inner_text() == "play" and not player.moves()
        player.box.locator("select[data-speed]").select_option("4")
        player.go(124)
        player.button.click()  # after the last moment the pulse sets out again
        w.page.wait_for_function("() => Number(document.getElementById('M0W').dataset.moment) < 100")
        player.go(40)  # a hand on the slider stops the clock
        assert player.button.inner_text() == "play" and player.moment == 40 and not player.moves()
        w.quiet()


def test_speed_is_moments_a_second(browser, files):
    with Watched(browser, files["rings"]) as w:
        player, taken = Player(w), {}
        for speed in ("1", "4"):
            player.box.locator("select[data-speed]").select_option(speed)
            player.go(0)
            # both ends on the page's own clock: a busy machine takes its time between click and question
            player.button.evaluate("e => e.addEventListener('click', () => { window.begun = performance.now(); })")
            player.button.click()
            until = (
                "() => Number(document.getElementById('M0W').dataset.moment) >= 24 && performance.now() - window.begun"
            )
            taken[speed] = w.page.wait_for_function(until, polling="raf").json_value()
            player.button.click()
        assert 1400 < taken["1"] < 3000  # 24 of 16 a second
        assert taken["4"] < 0.6 * taken["1"]


def test_the_keyboard_is_enough(browser, files):
    with Watched(browser, files["rings"]) as w:
        player = Player(w)
        player.slider.focus()
        for key, moment in (("Home", 0), ("ArrowRight", 1), ("ArrowUp", 2), ("End", 128), ("ArrowLeft", 127)):
            w.page.keyboard.press(key)
            assert player.moment == moment, key
        assert player.slider.get_attribute("aria-valuetext").startswith("1.98 laps, token ")
        assert player.slider.get_attribute("aria-label") == "Time since the pulse set out"
        player.button.focus()
        w.page.keyboard.press("Space")
        assert player.button.inner_text() == "pause" and player.moves()
        w.page.keyboard.press("Enter")
        assert player.button.inner_text() == "play" and not player.moves()
        w.page.keyboard.press("Tab")
        assert w.page.evaluate("document.activeElement.type") == "range"
        w.quiet()


def test_the_nodes_drawn_are_those_of_the_data_for_both_orders_on_one_clock(browser, files):
    (_, panel), *_ = gather(traced(), None).waves
    picture = panel.heads[panel.first].picture
    with Watched(browser, files["rings"]) as w:
        player = Player(w)
        for moment in (1, 9, 16, 33, 47, 70):
            player.go(moment)
            for order in ("wave", "null"):
                codes = np.frombuffer(base64.b64decode(picture[order]["data"]), np.uint8).reshape(129, 16)
                assert player.brightest(order, 16) == int(codes[moment].argmax()), (moment, order)
        # S4D-Lin: a node every N-th part of a lap, towards smaller numbers
        player.go(32)
        assert player.brightest("wave", 16) == 8


def test_a_drag_on_the_diagram_moves_the_time(browser, files):
    with Watched(browser, files["rings"]) as w:
        player = Player(w)
        canvas = player.box.locator("canvas[data-space=null]")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        middle = box["x"] + 34 + (box["width"] - 42) / 2
        w.page.mouse.click(middle, box["y"] + 60)
        assert player.moment == 64
        w.page.mouse.move(middle, box["y"] + 60)
        w.page.mouse.down()
        w.page.mouse.move(middle - 500, box["y"] + 60, steps=4)
        w.page.mouse.up()
        assert player.moment == 0
        w.page.mouse.move(middle, box["y"] + 60)  # without a button it only looks
        assert player.moment == 0
        w.quiet()


def test_another_head_changes_everything_and_keeps_the_time(browser, files):
    (_, panel), *_ = gather(traced(), None).waves
    with Watched(browser, files["rings"]) as w:
        player = Player(w)
        player.go(20)
        chooser = player.box.locator("select[data-heads]")
        assert chooser.locator("option").all_inner_texts() == [head.name for head in panel.heads]
        pixels, seen = "c => c.toDataURL()", set()
        for k, head in enumerate(panel.heads):
            chooser.select_option(str(k))
            shown = player.box.locator(".sentence:visible")
            assert shown.count() == 1 and shown.inner_text() == f"Head {head.head}. {head.sentence}"
            assert f"{head.picture['tokens'][20]}:" in player.box.locator(".moment").inner_text()
            assert player.box.locator("figcaption:visible").count() == 4 + 3
            seen.add(player.box.locator("canvas[data-space=wave]").evaluate(pixels))
        assert len(seen) == len(panel.heads) == 4 and player.moment == 20
        w.quiet()


def test_who_asks_for_less_motion_gets_steps(browser, files):
    with Watched(browser, files["rings"], motion="reduce") as w:
        player = Player(w)
        assert player.button.inner_text() == "step" and "less motion" in player.box.locator(".still").inner_text()
        player.button.click()
        assert player.moment == 20 and not player.moves()
        shows = "text => document.querySelector('#M0W [data-do=play]').textContent === text"
        w.page.emulate_media(reduced_motion="no-preference")
        w.page.wait_for_function(shows, arg="play")  # the page hears of it a moment later
        assert not player.box.locator(".still").is_visible()
        player.button.click()
        assert player.moves()
        w.page.emulate_media(reduced_motion="reduce")  # while it runs
        w.page.wait_for_function(shows, arg="step")
        assert not player.moves()
        w.quiet()


def test_out_of_sight_it_stops_and_printing_opens_it_in_light_colours(browser, files):
    with Watched(browser, files["rings"], scheme="dark") as w:
        player = Player(w)
        player.button.click()
        w.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        w.page.wait_for_function("() => document.querySelector('#M0W [data-do=play]').textContent === 'play'")
        opened = "() => [...document.querySelectorAll('details.rings')].map((e) => e.open)"
        assert w.page.evaluate(opened) == [True, False]
        w.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert w.page.evaluate(opened) == [True, True]
        assert all(drawn(canvas) for canvas in w.page.locator("#M1W canvas").all())
        w.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert w.page.evaluate(opened) == [True, False]
        w.quiet()


def test_links_open_a_folded_panel(browser, files):
    with Watched(browser, files["rings"], at="#M1W") as w:
        w.page.wait_for_selector("#M1W[data-ready]")
        assert w.page.locator("#M1W").evaluate("e => e.open")
        assert math.isfinite(Player(w, "M1W").moment)


def test_hostile_names_stay_text(browser, files):
    with Watched(browser, files["hostile"]) as w:
        for id in ("M0W", "M1W"):
            Player(w, id)
        assert HOSTILE in w.page.locator("#M0W summary").inner_text()
        assert "<img src=x onerror=alert(2)>" in w.page.locator("#M1W summary").inner_text()
        assert w.page.locator("script").count() == 2 and w.page.locator("img").count() == 0
        w.quiet()


def test_a_model_without_rings_has_no_waves(browser, files):
    with Watched(browser, files["none"]) as w:
        assert w.page.locator("#waves, .rings, a[href='#waves']").count() == 0
        w.quiet()
