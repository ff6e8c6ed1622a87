"""The figure says what it shows, and nothing in it lies on anything else."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from mixerlens import figures
from mixerlens.principles import figure
from mixerlens.principles.model import of_family


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A function that draws and gives the figure and its panels by the title's first word or two."""
    kept: list[Any] = []

    @contextmanager
    def keep(*arguments):
        with figures.drawing(*arguments) as (made, axes):
            yield made, axes
            made.canvas.draw()
            kept.append((made, {axis.get_title(loc="left").partition(":")[0]: axis for axis in axes.flat}))

    monkeypatch.setattr(figure, "drawing", keep)

    def run(found):
        figure.draw(found, tmp_path / "figure.png")
        return kept[-1]

    return run


def shown_ticks(axis, which):
    low, high = getattr(axis, f"get_{which}lim")()
    return [v for v in getattr(axis, f"{which}axis").get_major_locator()() if low <= v <= high]


@pytest.mark.parametrize("name", ["gated_delta_net", "softmax_attention", "s4d"])
def test_a_mixer_alone(name, drawn):
    made, panels = drawn(of_family(name, length=40, seed=3))
    heading = made.get_suptitle().replace("\n", " ")
    for words in ("on 40 tokens", "seed 3", "median", "from the lowest head to the highest"):
        assert words in heading
    assert ("Not drawn: 5 Scaling, as q.k is one product" in heading) == (name == "s4d")
    assert ("5 Scaling" in panels) == (name != "s4d")
    for title in ("3 Position", "4 Structure", "Eigenvalues"):
        assert panels[title].get_xlim() == (-0.5, 0.5)
        marks = [float(x) for line in panels[title].lines for x in line.get_xdata()]
        assert marks and all(-0.45 < x < 0.45 for x in marks)
    for title in ("2 Selectivity", "Eigenvalues"):
        low, high = panels[title].get_ylim()
        assert low <= 0 and high >= 1 and high - low < 1.2
    for title in ("1 Readout", "6 Normalisation", "Retention"):
        for which in "xy":
            assert len(shown_ticks(panels[title], which)) >= 2, (title, which)
    low, high = panels["Retention"].get_ylim()
    assert high / low < 1e10
    for title, words in (("1 Readout", "T / 2, the most to be seen"), ("6 Normalisation", "G = 1")):
        legend = panels[title].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == [words]
        assert words not in [text.get_text() for text in panels[title].texts]
        box, inside = legend.get_window_extent(), panels[title].get_window_extent()
        assert box.y0 >= inside.y1 - 3  # above the panel, where no line is


def test_a_single_length_has_a_mark_and_few_points_all(drawn):
    made, panels = drawn(of_family("gated_delta_net", length=20, which=["readout", "normalization"]))
    (line,) = (line for line in panels["1 Readout"].lines if line.get_label() != "T / 2, the most to be seen")
    assert len(line.get_xdata()) == 1 and line.get_marker() == "o" and panels["1 Readout"].collections
    assert [float(x) for x in shown_ticks(panels["6 Normalisation"], "x")] == [1, 2, 4, 8, 16, 20]
    assert made.get_size_inches()[0] < 10  # two panels, no empty third


def test_the_kinds_of_two_layers_are_told_and_their_names_stand_apart(drawn):
    one = of_family("gated_delta_net", length=20)
    (mixer,) = one.mixers
    two = (replace(mixer, kind="recurrent"), replace(mixer, kind="attention", layer=1, path="other"))
    made, panels = drawn(replace(one, mixers=two))
    assert sorted(text.get_text() for text in made.legends[0].get_texts()) == ["attention", "recurrent"]
    names = [text.get_text() for text in panels["6 Normalisation"].texts]
    assert names == ["0, 1"]  # the same line: one name for both
    filled = {line.get_fillstyle() for line in panels["3 Position"].lines if len(line.get_xdata())}
    assert {"none", "full"} <= filled


@pytest.mark.parametrize(("low", "high"), [(3, 9), (1, 2), (0.9, 1.1), (2e-9, 3), (0.2, 800), (0.01, 0.0101)])
def test_a_logarithmic_axis_has_more_than_one_label(low, high):
    ticks = figure._ticks(low, high)
    assert 2 <= len(ticks) <= 12 and ticks == sorted(set(ticks)) and all(low <= v <= high for v in ticks)


def test_the_number_of_a_line_that_is_cut_stands_at_the_edge():
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    axis.set_yscale("log")
    axis.set_ylim(1e-7, 1)
    figure._name_ends(axis, [(1.0, 1e-30, 0), (1.0, 1e-2, 1)])
    assert [(text.get_text(), text.xy[1]) for text in axis.texts] == [("0", 1e-7), ("1", 1e-2)]
