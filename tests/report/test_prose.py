"""Markdown of this project as HTML: what it understands, what it escapes, and a file that loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from mixerlens.report.prose import page
from mixerlens.report.svg import Axis, Mark, Row, lines, point_rows

TEXT = """# A title with <b> & `code`

First line,
second line with **bold**, *it* and a \\* star.

## A part

- an item
  that goes on
  - below it
- another

| set | score |
| --- | --- |
| a \\| b <script>alert(1)</script> | 12.5 |
| c | +3 [1, 2] |

<details><summary>More</summary>

Inside.

</details>
<script>alert(2)</script>
"""


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.stack: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.opened.append(tag)
        if tag not in ("meta", "link"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.fixture(scope="module")
def made() -> str:
    return page(TEXT, {"A part": [("<svg></svg>", "What <it> is")]}, "a command <x>")


def test_every_tag_is_closed_and_none_comes_from_the_text(made):
    tags = Tags(made)
    assert tags.stack == [] and "script" not in tags.opened and "b" not in tags.opened
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made and "&lt;script&gt;alert(2)&lt;/script&gt;" in made
    assert "What &lt;it&gt; is" in made and "a command &lt;x&gt;" in made


def test_what_is_understood(made):
    assert "<p>First line, second line with <strong>bold</strong>, <em>it</em> and a * star.</p>" in made
    assert "<ul><li>an item that goes on<ul><li>below it</li></ul></li><li>another</li></ul>" in made
    assert '<h2 id="a-part">A part</h2>' in made and 'href="#a-part"' in made
    assert '<td>a | b &lt;script&gt;alert(1)&lt;/script&gt;</td><td class="number">12.5</td>' in made
    assert '<td class="number">+3 [1, 2]</td>' in made and "<summary>More</summary>" in made
    assert made.index("</h2>") < made.index("<svg>") < made.index("<ul><li>an item")


def test_of_links_to_other_pages_the_words_are_left():
    made = page("# Title\n\nSee [the `bench`](bench-tasks.md#grid), [0, 1](b) and f(x)[2](3).\n", {}, "a command")
    assert "<p>See the <code>bench</code>, [0, 1](b) and f(x)[2](3).</p>" in made


def test_nothing_may_be_loaded_or_run(made):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', made)
    assert policy is not None and policy.group(1).startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy.group(1) and not re.search(r'(?:src|href)="(?!#|data:,")', made)


def places(svg: str) -> dict[str, float]:
    """Where each mark that has a title stands across: the middle of its outline."""
    found = {}
    for outline, said in re.findall(r'<path class="mark [^"]*" d="([^"]+)"><title>([^<]*)</title>', svg):
        x, _ = map(float, outline[1:].replace("L", "a").split("a")[0].split())
        found[said.split(":")[0]] = x
    return found


def test_marks_stand_where_their_numbers_are():
    rows = [Row("set <1>", [Mark(0.0, -5, 5, "nought"), None]), Row("b", [Mark(50.0), Mark(100.0, filled=False)])]
    svg = point_rows("what & why", ["x", "y"], rows, Axis("points, %", 0, 100, reference=50))
    at = places(svg)
    # discks are drawn from their left edge, squares from their corner: 4.5 and 4 to the left
    zero, half, whole = at["set &lt;1&gt;, x"] + 4.5, at["b, x"] + 4.5, at["b, y"] + 4
    assert half == pytest.approx((zero + whole) / 2, abs=0.1)
    assert f"M{half:.1f} " in svg and 'class="reference"' in svg  # the dashed line at 50
    assert svg.count('class="bar one"') == 1 and svg.count("hollow") == 1
    assert "what &amp; why" in svg and "set &lt;1&gt;, x: nought" in svg and "<1>" not in svg
    bar = re.search(r'class="bar one" d="M([\d.]+) [\d.]+H([\d.]+)"', svg)
    assert bar is not None
    scale = (whole - zero) / 100  # an interval that leaves the axis ends at its end
    assert float(bar.group(1)) == pytest.approx(zero, abs=0.1) and float(bar.group(2)) == pytest.approx(
        zero + 5 * scale, abs=0.1
    )


def test_lines_leave_out_what_is_not_there():
    rows = [Row("one", [Mark(1.0), None, Mark(3.0), Mark(2.0), Mark(2.0), Mark(2.0)])]
    svg = lines("l", ["a", "b"], ["1", "2", "3"], rows, Axis("", 0, 4), "waves")
    drawn = re.findall(r'class="line (\w+)" d="([^"]+)"', svg)
    assert [(name, path.count("L")) for name, path in drawn] == [("one", 1), ("two", 2)]
    assert svg.count("<title>") == 5


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 100, [0, 20, 40, 60, 80, 100]), (-3, 7, [-2, 0, 2, 4, 6]), (0, 1.2, None)]
)
def test_ticks_are_round_and_inside(low, high, ticks):
    found = Axis("", low, high).ticks
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found) and 4 <= len(found) <= 8
    assert ticks is None or found == pytest.approx(ticks)


def test_fenced_code_keeps_its_lines_and_is_escaped():
    made = page("# T\n\nBefore:\n```yaml\na: <b>\n  - | **c**\n\n# d\n```\nAfter.\n", {}, "x")
    code = re.search(r"<pre[^>]*><code>(.*?)</code></pre>", made, re.S)
    assert code is not None and code.group(1) == "a: &lt;b&gt;\n  - | **c**\n\n# d"
    assert "<p>Before:</p>" in made and "<p>After.</p>" in made
