"""The certificate in a terminal: the page's words, at any width, with no word cut in two."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from mixerlens.report import certificate_table
from mixerlens.report.checks import verdict
from mixerlens.report.grid import Grid, Pieces
from mixerlens.verify import Certificate, Check

NOISE = "tolerance: float32 floor (measured rounding noise 9e-07)"
SUM = "model.layers.12.self_attn: alpha @ values against the sum over tokens, row by row"


def passing(
    check: str,
    variant: str,
    reason: str = NOISE,
    layer: int | None = None,
    head: int | None = None,
    position: int | None = None,
) -> Check:
    return Check(check, variant, "pass", 1.5e-6, 5e-7, 1e-5, reason, layer, head, position)


def pieces(text: str) -> list[str]:
    """Words, which end after a slash, or a hyphen inside a word, too."""
    return re.sub("(/|-(?=[a-z]))", r"\1 ", text).split()


def printed(certificate: Certificate, width: int, unit: str = "token") -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(certificate_table(certificate, unit), markup=False)
    return out.getvalue()


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """The longest names there are: many layers, heads and tokens, and every check in every variant."""
    both, sides = ("plain", "position_ids"), ("left", "right")
    return Certificate(
        [passing("operator", v, SUM, layer=12, head=118, position=3700) for v in ("model", "token-by-token sum")] * 40
        + [passing("step", v, position=128) for v in both]
        + [Check("chunk", v, "fail", 0.1, 0.04, 1e-5, "[red]no markup[/red]", position=126) for v in both]
        + [passing("padding", f"{side}/{v}", position=221) for side in sides for v in both]
        + [Check("operator", "model", "n/a", None, None, None, "path: why it is not")]
    )


@pytest.mark.parametrize("width", [80, 81, 90, 100, 101, 120, 200])
def test_no_word_is_cut(certificate, width):
    text = printed(certificate, width)
    assert max(len(line) for line in text.splitlines()) <= width
    source = pieces(" ".join(f"{c.check} {c.variant} {c.status} {c.reason}" for c in certificate.checks))
    numbers = "5.0e-07 1.0e-05 1.5e-06 4.0e-02 1.0e-01 layer 12, head 118, token 3700 128 126 221 1 2 3 4"
    known = {*source, *numbers.split(), "model,", "sum,", "worst", "of", "40", "does", "not", "apply:"}
    table, notes = re.split(r"\n\s*\n", text, maxsplit=1)
    cells = [word for line in table.splitlines()[3:] for word in pieces(line)]
    assert set(cells) <= known, set(cells) - known
    assert {"position_ids", "operator", "1.5e-06", "118,"} <= set(cells)  # nothing is left out at these widths
    assert set(pieces(notes.split("error and")[0])) <= known


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_leaves_columns_out_before_it_cuts_words(certificate, width):
    text = printed(certificate, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "1.5e-06" not in text and "token 221" not in text
    if width == 60:
        assert {"position_ids", "sum,", "tolerance"} <= set(re.sub("(left|right)/", "", text).split())


def test_it_says_what_the_page_says(certificate):
    text, page = printed(certificate, 100), verdict(certificate)
    assert page.headline == "2 of 88 checks fail" and text.startswith("certificate: 2 of 88 checks fail")
    for row in page.rows:
        assert row.check in text and row.variant.replace("\u00a0", " ") in text
    assert "[red]no markup[/red]" in text and "hold" not in text
    assert text.count("measured rounding noise 9e-07") == 1, "a reason is told once"


@pytest.mark.parametrize(
    ("statuses", "headline"),
    [
        (["pass"], "The check passes"),
        (["fail"], "The check fails"),
        (["pass", "pass", "n/a"], "All 2 checks pass"),
        (["pass", "fail"], "1 of 2 checks fails"),
        (["n/a"], "Nothing could be checked"),
        ([], "Nothing could be checked"),
    ],
)
def test_one_wording_of_the_verdict(statuses, headline):
    checks = [Check(f"c{k}", "plain", status, 0.1, 0.1, 1e-5, "why") for k, status in enumerate(statuses)]
    assert verdict(Certificate(checks)).headline == headline
    assert printed(Certificate(checks), 80).splitlines()[0] == f"certificate: {headline[0].lower()}{headline[1:]}"


def test_rounding_noise_is_explained_where_it_is_named(certificate):
    legend = "measured rounding noise: how far one more rounding in every module moves the answer."
    assert legend in printed(certificate, 100)
    assert "measured rounding noise" not in printed(Certificate([passing("operator", "model", "exact")]), 100)


def test_places_are_tokens_or_time_steps():
    certificate = Certificate([passing("operator", "model", layer=1, head=2, position=3)])
    assert "layer 1, head 2, token 3" in printed(certificate, 100)
    assert "layer 1, head 2, time step 3" in printed(certificate, 100, "time step")
    exact = Certificate([Check("step", "plain", "pass", 0.0, 0.0, 1e-5, "why", position=3)])
    assert "token 3" not in printed(exact, 100), "an error of zero is nowhere"


def test_pieces_break_where_they_may():
    path = Pieces.after("model.layers.10.mixer", ".")
    assert path.lines(80) == ["model.layers.10.mixer"]
    assert path.lines(13) == ["model.layers.", "10.mixer"]
    assert Pieces.after("layer 2, head 10", ",").lines(8) == ["layer 2,", "head 10"]
    assert Pieces.after("", "/").lines(3) == []


def test_a_name_too_long_for_any_column_breaks_at_its_underscores():
    grid = Grid("title", ("name", "what"), rows=[("sliding_window_linear_attention", "[b]x[/b]")])
    out = io.StringIO()
    Console(file=out, width=30).print(grid)
    assert [line.split()[0] for line in out.getvalue().splitlines()[3:]] == ["sliding_window_", "linear_attention"]
    assert "[b]x[/b]" in out.getvalue()


def test_a_row_has_a_cell_for_every_column():
    grid = Grid("title", ("a", "b"))
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        grid.add_row("x")
    with pytest.raises(ValueError, match="3 cells for 2 columns"):
        grid.add_row("x", "y", "z")
