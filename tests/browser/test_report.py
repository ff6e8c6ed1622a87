"""The report in a real headless Chromium: it renders, zooms, stays silent and sends nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from example import HOSTILE, certificate, trace

from browser.watched import Watched
from mixerlens import report

pytestmark = pytest.mark.browser

WORDS = ["In", " the", " beginning", "\n", HOSTILE, "<img src=x onerror=alert(2)>", "\u202e", " God"]
HYBRID = [("mamba", 20, 4), ("softmax_attention", 1, 8), ("gated_delta_net", 2, 6), ("bidirectional", 1, 4)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mixerlens.report.data.MAP_BYTES", 20_000)  # so that the finest cells hold several pairs
        words = [f"w{k}" for k in range(300)]
        pooled = report.write(trace([("softmax_attention", 1, 8)], 300, words), None, folder / "pooled.html")
    return {
        "pooled": pooled,
        "hybrid": report.write(trace(HYBRID, 60, WORDS), certificate(("chunk",)), folder / "hybrid.html"),
        "long": report.write(
            trace([("softmax_attention", 2, 8)], 2000, WORDS),
            certificate(),
            folder / "l.html",
        ),
        "floats": report.write(trace([("s4d", 5, 4)], 64), certificate(), folder / "floats.html"),
    }


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_everything_is_drawn_without_a_word(browser, files, width, scheme):
    with Watched(browser, files["hybrid"], width, scheme) as w:
        assert w.page.locator(".verdict").inner_text().startswith("1 of 6 checks fail")
        cards = w.page.locator(".card").evaluate_all("cards => cards.map(c => c.id)")
        assert len(cards) == 9 + 1 + 2 + 1
        for card in cards:
            w.figure(card)
            assert w.colours(card) > 8, card
            for chart in ("horizon", "spectrum", "distance"):
                assert w.page.locator(f"#{card} [data-chart={chart}] svg path").count() >= 2, (card, chart)
        assert w.page.locator("[data-strip] svg a").count() == 9
        blank = (
            "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.some(x => x); }"
        )
        assert all(w.page.locator("canvas[data-thumb]").nth(k).evaluate(blank) for k in range(len(cards)))
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert w.page.evaluate(wide), "the page scrolls sideways"
        w.quiet()


def test_the_future_is_hatched_and_both_ways_is_not(browser, files):
    corner = """c => { const r = c.width / c.clientWidth, n = 40 * r;
        const d = c.getContext('2d').getImageData((c.clientWidth - 60) * r, 20 * r, n, n).data;
        return d.filter((x, k) => k % 4 === 3 && x > 60).length / (d.length / 4); }"""
    with Watched(browser, files["hybrid"]) as w:
        assert w.figure("M1H0").locator("canvas.plot").evaluate(corner) < 0.4  # thin lines
        assert w.figure("M3H0").locator("canvas.plot").evaluate(corner) == 1


def test_zoom_by_wheel_drag_keys_and_buttons(browser, files):
    with Watched(browser, files["hybrid"]) as w:
        figure, canvas = w.figure("M1H0"), w.page.locator("#M1H0 canvas.plot")
        assert w.view("M1H0") == (0, 0, 60, 1)
        box = canvas.bounding_box()
        middle = (box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
        w.page.mouse.move(*middle)
        before = w.page.evaluate("scrollY")
        w.page.mouse.wheel(0, 40)
        w.page.wait_for_timeout(100)
        assert w.view("M1H0")[2] == 60 and w.page.evaluate("scrollY") > before  # the page keeps its wheel
        figure.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        middle = (box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
        w.page.mouse.click(*middle)
        w.page.mouse.wheel(0, -400)
        x, y, span, _ = w.view("M1H0")
        assert 4 <= span < 40 and x > 0 and y > 0
        w.page.mouse.down()
        w.page.mouse.move(middle[0] + 60, middle[1] + 40, steps=4)
        w.page.mouse.up()
        dragged = w.view("M1H0")
        assert dragged[0] < x and dragged[1] < y and dragged[2] == span
        canvas.press("ArrowRight")
        assert w.view("M1H0")[0] > dragged[0]
        canvas.press("+")
        assert w.view("M1H0")[2] < span
        canvas.press("0")
        assert w.view("M1H0") == (0, 0, 60, 1)
        figure.get_by_role("button", name="Zoom in").click()
        assert w.view("M1H0")[2] == 30
        assert re.match(r"rows 15–44, columns 15–44 of 60", figure.locator(".range").inner_text())
        figure.get_by_role("button", name="Zoom out").click()
        assert w.view("M1H0")[2] == 60
        w.quiet()


def test_colour_scales_change_the_picture_and_its_legend(browser, files):
    pixels = "c => c.toDataURL()"
    with Watched(browser, files["hybrid"]) as w:
        figure, canvas = w.figure("M1H0"), w.page.locator("#M1H0 canvas.plot")
        seen = {}
        for scale in ("root", "linear", "log", "row"):
            figure.locator("select").select_option(scale)
            seen[scale] = (canvas.evaluate(pixels), figure.locator(".legend div").inner_text())
        assert len({picture for picture, _ in seen.values()}) == 4
        assert len({seen[scale][1] for scale in ("root", "linear", "log")}) == 3
        assert seen["row"][1].split()[-1] == "1" and "each row" in figure.locator(".legend p").inner_text()
        w.quiet()


def test_two_thousand_tokens_zoom_to_finer_cells(browser, files):
    with Watched(browser, files["long"]) as w:
        assert "of 2000" in w.figure("M0H0").locator(".range").inner_text()
        *_, coarse = w.view("M0H0")
        assert coarse == 4  # the finest that has no more cells than the plot has pixels: none is left out
        canvas = w.page.locator("#M0H0 canvas.plot")
        text = w.page.locator("#M0H0 .range").inner_text()
        assert f"mean of |α| over {coarse} × {coarse} pairs" in text
        canvas.focus()
        for _ in range(9):
            canvas.press("+")
        _, _, span, fine = w.view("M0H0")
        assert span == 4 and fine == 1 and w.colours("M0H0") >= 2
        canvas.press("0")
        assert w.view("M0H0")[2] == 2000
        w.quiet()


def test_a_pooled_picture_names_the_tokens_of_a_cell(browser, files):
    with Watched(browser, files["pooled"]) as w:
        w.page.evaluate("""() => {
            const pen = CanvasRenderingContext2D.prototype, write = pen.fillText;
            pen.fillText = function (text, ...at) { window.written.push(text); return write.call(this, text, ...at); };
            window.written = []; }""")
        figure, canvas = w.figure("M0H0"), w.page.locator("#M0H0 canvas.plot")
        canvas.focus()
        for _ in range(9):
            canvas.press("+")
        *_, span, side = w.view("M0H0")
        assert span == 4 and side > 1
        w.page.evaluate("window.written = []")
        canvas.press("ArrowUp")
        w.view("M0H0")
        names = w.page.evaluate("window.written")
        assert names and all(re.fullmatch(r"w\d+…w\d+", name) for name in names), names
        first, last = (int(part[1:]) for part in names[0].split("…"))
        assert 1 <= last - first <= side - 1
        canvas.hover(position={"x": 250, "y": 500})
        assert f"mean of a {side} × {side} cell" in figure.locator(".readout").inner_text()
        assert "8-bit picture" in figure.locator(".readout").get_attribute("title")
        assert "the largest cell, a mean over up to" in figure.locator(".legend p").inner_text()
        w.quiet()


def test_layers_fold_and_links_and_printing_open_them(browser, files):
    opened = "() => [...document.querySelectorAll('details.layer')].map((d) => d.open)"
    with Watched(browser, files["hybrid"]) as w:
        assert w.page.evaluate(opened) == [True, False, False, False]
        w.page.locator(".cell[href='#M2H1']").click()
        assert w.page.evaluate(opened) == [True, False, True, False]
        w.page.wait_for_selector("#M2H1 figure.coefficients[data-ready]")
        assert w.colours("M2H1") > 8
        w.page.locator(".jump a[href='#M1']").click()
        assert w.page.evaluate(opened) == [True, True, True, False]
        w.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert w.page.evaluate(opened) == [True] * 4
        w.page.wait_for_selector("#M3H0 figure.coefficients[data-ready]")
        w.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert w.page.evaluate(opened) == [True, True, True, False]
        w.page.get_by_role("button", name="close all").click()
        assert w.page.evaluate(opened) == [False] * 4
        w.page.get_by_role("button", name="open all").click()
        assert w.page.evaluate(opened) == [True] * 4
        w.quiet()


def test_an_edge_fades_only_where_something_is_hidden(browser, files):
    faded = "e => [e.dataset.edges, getComputedStyle(e).maskImage !== 'none']"
    with Watched(browser, files["hybrid"], 390) as w:
        nav, row = w.page.locator("nav.top ul"), w.page.locator(".cells").first
        w.page.wait_for_timeout(100)
        assert nav.evaluate(faded) == ["right", True] and row.evaluate(faded) == ["right", True]
        row.evaluate("e => e.scrollTo(60, 0)")
        nav.evaluate("e => e.scrollTo(e.scrollWidth, 0)")
        w.page.wait_for_timeout(100)
        assert row.evaluate(faded) == ["left right", True] and nav.evaluate(faded) == ["left", True]
        assert w.page.locator(".cells").nth(1).evaluate(faded) == ["", False]  # one head fits
        w.page.set_viewport_size({"width": 1440, "height": 900})
        w.page.wait_for_timeout(200)
        assert nav.evaluate(faded) == ["", False] and row.evaluate(faded) == ["", False]


def test_no_check_is_cut_off_at_any_width(browser, files):
    beyond = "tables => tables.map((e) => e.scrollWidth - e.clientWidth)"
    with Watched(browser, files["hybrid"]) as w:
        w.page.locator("#certificate details").evaluate("e => { e.open = true; }")
        for width in (360, 720, 800, 1100, 1140, 1280, 1340, 1440):
            w.page.set_viewport_size({"width": width, "height": 900})
            w.page.wait_for_timeout(60)
            assert w.page.locator(".scroll").evaluate_all(beyond) == [0, 0], width


def test_letters_of_a_chart_keep_their_size_on_a_phone(browser, files):
    """Also in a card that was drawn while its layer was folded, and after the phone was turned."""
    size = "e => 11 * e.getBoundingClientRect().width / e.viewBox.baseVal.width"
    with Watched(browser, files["hybrid"], 390) as w:
        w.page.wait_for_function("() => document.querySelectorAll('.card[data-open]').length === 13")
        assert w.page.locator("#M2").evaluate("e => e.open") is False
        for width in (390, 700):
            w.page.set_viewport_size({"width": width, "height": 900})
            w.figure("M2H1")
            w.page.wait_for_timeout(200)
            drawn = w.page.locator("#M2H1 [data-chart]:not([data-chart=spectrum]) svg").all()
            assert len(drawn) == 3 and all(10.5 <= chart.evaluate(size) <= 18 for chart in drawn)


def test_hostile_tokens_stay_text(browser, files):
    with Watched(browser, files["hybrid"]) as w:
        text = w.page.locator("#text").inner_text()
        assert HOSTILE in text and "<img␣src=x␣onerror=alert(2)>" in text and "\\u202e" in text
        canvas = w.figure("M1H0").locator("canvas.plot")
        canvas.click()
        reads = w.page.locator("#M1H0 .reads")
        assert HOSTILE in reads.inner_text() and reads.locator("script, img").count() == 0
        assert w.page.locator("script").count() == 2 and w.page.locator("img").count() == 0
        for _ in range(3):
            w.page.locator("#M1H0 [data-do=in]").click()
        canvas.hover(position={"x": 250, "y": 300})
        assert "α = " in w.page.locator("#M1H0 .readout").inner_text()
        w.quiet()


def test_what_a_row_reads_matches_the_picture(browser, files):
    with Watched(browser, files["hybrid"]) as w:
        canvas = w.figure("M1H0").locator("canvas.plot")
        canvas.click()
        shown = w.page.locator("#M1H0 .reads").inner_text()
        row = int(re.search(r"token (\d+)", shown)[1])
        titles = w.page.locator("#M1H0 .reads .tokens span[title]").evaluate_all("s => s.map(e => e.title)")
        assert len(titles) == row + 1  # the future has no coefficient
        alpha = trace(HYBRID, 60, WORDS).mixers["model.layers.1.mixer"].operator().row(row)[0, 0]
        for title, expected in zip(titles, alpha.tolist(), strict=False):
            found = float(title.split(": ")[1].replace("−", "-"))
            assert abs(found - expected) <= 0.04 * max(abs(expected), 0.01), title


def test_links_arrive_and_float_inputs_work(browser, files):
    with Watched(browser, files["hybrid"], at="#M2H1") as w:
        w.page.wait_for_selector("#M2H1 figure.coefficients[data-ready]")
        w.page.wait_for_timeout(200)
        assert 0 <= w.page.evaluate("document.getElementById('M2H1').getBoundingClientRect().top") < 120
    with Watched(browser, files["floats"]) as w:
        w.figure("M0H0")
        assert w.page.locator("#text").count() == 0
        w.page.locator("#M0H0 canvas.plot").click()
        assert "time step" in w.page.locator("#M0H0 .reads").inner_text()
        w.quiet()


def test_the_page_cannot_reach_out(browser, files):
    """The policy holds in the browser itself: a script that tries is stopped before a request is made."""
    with Watched(browser, files["hybrid"]) as w:
        blocked = w.page.evaluate("fetch('https://example.invalid/x').then(() => 'sent', error => String(error))")
        assert "sent" not in blocked
        assert {address.split("#")[0] for address in w.asked} == {w.address}
        assert any("Content Security Policy" in line for line in w.said)


def test_printing_draws_everything_in_the_light_palette(browser, files):
    with Watched(browser, files["hybrid"], scheme="dark") as w:
        w.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        for card in w.page.locator(".card").evaluate_all("cards => cards.map(c => c.id)"):
            w.page.wait_for_selector(f"#{card} figure.coefficients[data-ready]")
        middle = "c => [...c.getContext('2d').getImageData(128, 0, 1, 1).data].slice(0, 3)"
        colour = w.page.locator("#M2H0 .legend canvas").evaluate(middle)
        assert min(colour) > 200, colour  # zero is near the paper's white
        w.quiet()
