"""Cells of the trained table: every control is there, and a cell computes what it is called."""

from __future__ import annotations

import numpy as np
import pytest

from mixerlens.reproduce import classifiers
from mixerlens.reproduce.baselines import BASELINES, baseline
from mixerlens.reproduce.classifiers import RECIPES, VARIANTS, cells
from mixerlens.reproduce.intervals import unpack, wilson
from mixerlens.reproduce.study import STUDIES
from mixerlens.reproduce.training import Recipe


@pytest.fixture
def tiny_cells(tiny, monkeypatch):
    """Two seeds of everything on the drawn set, a few steps each."""
    monkeypatch.setattr(classifiers, "dataset", lambda name, folder: tiny)
    monkeypatch.setitem(RECIPES["quick"], "tiny", Recipe(steps=3, batch=8, features=4, modes=2, looks=1))
    return {(cell.variant, cell.seed): cell for cell in cells("quick", ["tiny"], [0, 1])}


def test_every_control_has_a_cell_a_seed_and_a_baseline_one(tiny_cells):
    asked = {(variant, seed) for variant in VARIANTS for seed in (0, 1)} | {(name, 0) for name in BASELINES}
    assert tiny_cells.keys() == asked


@pytest.mark.parametrize("variant", [*VARIANTS, *BASELINES])
def test_a_cell_is_scored_on_the_whole_test_part(tiny_cells, tiny, variant):
    found = tiny_cells[variant, 0].compute()
    test = found["test"]
    assert test["total"] == len(tiny.test) and unpack(test["right"], test["total"]).sum() == test["correct"]
    assert test["interval"] == wilson(test["correct"], test["total"])
    assert found["data"]["digests"]["test"] == tiny.test.digest
    assert ("parts" in found) == (variant in classifiers.ANALYSED)


def test_variants_change_what_they_say(tiny_cells):
    options = {variant: tiny_cells[variant, 0].settings["options"] for variant in VARIANTS}
    assert options["full"] == {} and options["identity"] == {"activation": "identity", "output": "linear"}
    assert tiny_cells["frozen", 0].settings["frozen"] and not tiny_cells["full", 0].settings["frozen"]
    settings = [str(sorted(tiny_cells[variant, 0].settings.items(), key=str)) for variant in VARIANTS]
    assert len(set(settings)) == len(VARIANTS)


def test_baselines_see_what_they_are_named_after(tiny):
    """The drawn classes differ in autocorrelation alone: lagged products tell them, means and raw steps cannot."""
    shares = {name: float(np.mean(baseline(name, tiny, None, None)[0])) for name in BASELINES}
    assert shares["lagged products"] > 0.9 and shares["channel means"] < 0.75 and shares["raw sequence"] < 0.75


def test_every_set_of_a_scale_has_a_recipe_and_all_cells_have_names_of_their_own():
    for scale in RECIPES:
        found = STUDIES["explicit-operator"].cells(scale, only=["orders"])
        assert len({cell.name for cell in found}) == len(found) == 40
    assert set(RECIPES["quick"]) >= {"digits", "mnist-14", "JapaneseVowels", "OSULeaf", "ACSF1"}
    assert set(RECIPES["full"]) >= {"digits", "mnist", "JapaneseVowels", "OSULeaf", "ACSF1", "PigCVP"}
