"""Cells of the trained table: every control is there, and a cell computes what it is called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixerlens.reproduce import classifiers, rings
from mixerlens.reproduce.baselines import BASELINES, baseline
from mixerlens.reproduce.classifiers import JUDGED, LONG, RECIPES, VARIANTS, cells
from mixerlens.reproduce.intervals import unpack, wilson
from mixerlens.reproduce.study import STUDIES
from mixerlens.reproduce.training import Recipe
from mixerlens.reproduce.verdicts import INTERACTING, LINEAR_READINGS


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


def test_long_sets_have_the_main_variants_and_other_sets_keep_their_cells():
    quick = RECIPES["quick"]
    found = cells("quick", list(quick), [0, 1, 2])
    for name in LONG:
        asked = {(variant, seed) for variant in JUDGED for seed in (0, 1, 2)} | {(kind, 0) for kind in BASELINES}
        assert {(cell.variant, cell.seed) for cell in found if cell.data == name} == asked
    assert {*INTERACTING, *LINEAR_READINGS} <= {*JUDGED, *BASELINES}
    short = [name for name in quick if name not in LONG]
    assert [cell.key for cell in cells("quick", short, [0, 1, 2])] == [
        cell.key for cell in found if cell.data not in LONG
    ]
    # scale full has no exceptions
    assert {cell.variant for cell in cells("full", ["mnist"], [0])} == {*VARIANTS, *BASELINES}


@pytest.mark.parametrize("variant", ["full", "two layers", "identity, last step", "raw sequence"])
def test_cells_of_scale_full_run(tiny, monkeypatch, variant):
    """The recipe of scale full, cut to two steps and one look, on the drawn set."""
    monkeypatch.setattr(classifiers, "dataset", lambda name, folder: tiny)
    recipe = RECIPES["full"]["digits"]
    monkeypatch.setitem(RECIPES["full"], "digits", replace(recipe, steps=2, looks=1))
    (cell,) = [cell for cell in cells("full", ["digits"], [0]) if cell.variant == variant]
    found = cell.compute()
    assert found["test"]["total"] == len(tiny.test) and ("parts" in found) == (variant in classifiers.ANALYSED)
    if variant in VARIANTS:
        assert cell.settings["scale"] == "full" and cell.settings["features"] == 64 and found["steps"] == 2


def test_rings_of_scale_full_run(tiny, monkeypatch):
    monkeypatch.setattr(rings, "dataset", lambda name, folder: tiny)
    monkeypatch.setitem(RECIPES["full"], "digits", replace(RECIPES["full"]["digits"], steps=2, looks=1))
    found = {cell.variant: cell for cell in rings.cells("full", ["digits"], [0])}
    assert found.keys() == {"rate 0.0001", "rate 0.001", "rate 0.01"}
    result = found["rate 0.01"].compute()
    assert result["trained"]["nodes"] == 32 and result["trained"]["rings"] == 64
    assert result["drift"]["largest"] > 0 and abs(result["initial"]["quarter"] - 1) < 0.5


def test_every_set_of_a_scale_has_a_recipe_and_all_cells_have_names_of_their_own():
    for scale in RECIPES:
        found = STUDIES["explicit-operator"].cells(scale, only=["orders"])
        assert len({cell.name for cell in found}) == len(found) == 40
    assert set(RECIPES["quick"]) >= {"digits", "mnist-14", "JapaneseVowels", "OSULeaf", "ACSF1"}
    assert set(RECIPES["full"]) >= {"digits", "mnist", "JapaneseVowels", "OSULeaf", "ACSF1", "PigCVP"}
