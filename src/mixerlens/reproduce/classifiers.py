"""The table "sets": trained classifiers on real sets, with every control that a claim about interactions needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..data import DataSet, load, present
from .baselines import BASELINES, baseline
from .intervals import pack, wilson
from .parts import ablations
from .store import Cell
from .training import Recipe, right, train

__all__ = ["ANALYSED", "LONG", "RECIPES", "VARIANTS", "Variant", "cells", "check", "dataset", "score"]

TABLE = "sets"


@dataclass(frozen=True)
class Variant:
    """options: of the model. frozen: its S4D systems are not trained. said: what it is, for the page."""

    said: str
    options: dict[str, Any]
    frozen: bool = False


VARIANTS: dict[str, Variant] = {
    "full": Variant("GELU and GLU, mean over time", {}),
    "identity": Variant("nothing interacts: identity for GELU, no GLU", {"activation": "identity", "output": "linear"}),
    "glu only": Variant("identity for GELU, GLU kept", {"activation": "identity"}),
    "gelu only": Variant("GELU kept, no GLU", {"output": "linear"}),
    "frozen": Variant("full, its kernels left as they were drawn", {}, frozen=True),
    "norm": Variant("full, with a LayerNorm", {"norm": "layer"}),
    "norm only": Variant(
        "identity, no GLU, with a LayerNorm", {"activation": "identity", "output": "linear", "norm": "layer"}
    ),
    "two layers": Variant("full, two blocks", {"layers": 2}),
    "last step": Variant("full, read at the last step", {"pool": "last"}),
    "identity, last step": Variant(
        "nothing interacts, read at the last step", {"activation": "identity", "output": "linear", "pool": "last"}
    ),
}
ANALYSED = ("full", "gelu only")  # whose parts are looked at
CORE = ("full", "identity", "glu only", "gelu only", "two layers", "frozen")
MEANS, TESTED = 500, 1000  # sequences at most: of the mean that replaces a part, and of the test without it
QUICK = {
    "digits": Recipe(steps=450, batch=64),
    "JapaneseVowels": Recipe(steps=250, batch=32),
    "OSULeaf": Recipe(steps=300, batch=32),
    "mnist-14": Recipe(steps=600, batch=32, most_held=250),
    "ACSF1": Recipe(steps=160, batch=16),
    "BasicMotions": Recipe(steps=160, batch=32),
    "ItalyPowerDemand": Recipe(steps=150, batch=32),
    "PigCVP": Recipe(steps=300, batch=16),
    "mnist": Recipe(steps=600, batch=32, most_held=250),
}
# long sets of scale quick: the variants that a verdict takes alone
LONG = ("PigCVP", "mnist")
JUDGED = (*CORE, "identity, last step")
_LARGE = Recipe(steps=4000, batch=64, features=64, rate=4e-3, looks=40, patience=12)
FULL = {
    name: replace(_LARGE, batch=64 if name in ("digits", "mnist") else 32)
    for name in (
        "digits", "JapaneseVowels", "OSULeaf", "mnist", "ACSF1", "PigCVP", "BasicMotions", "ItalyPowerDemand",
        "GunPoint", "ArrowHead", "SelfRegulationSCP1",
    )
}  # fmt: skip
RECIPES: dict[str, dict[str, Recipe]] = {"quick": QUICK, "full": FULL}


@lru_cache(maxsize=2)
def dataset(name: str, folder: str | None) -> DataSet:
    """`data.load`, once."""
    return load(name, folder)


def check(name: str, folder: str | None) -> None:
    """Raises InputError for a set that is not there, before anything long has run."""
    if not present(name, folder):
        load(name, folder)


def cells(scale: str, sets: Sequence[str], seeds: Sequence[int], folder: str | None = None) -> list[Cell]:
    """Every baseline and variant of every set: what says most first, so that a run cut short says something.

    A long set of scale quick (`LONG`) has its main variants only.
    """
    found = []
    for name in sets:
        recipe = RECIPES[scale][name]
        for kind in BASELINES:
            settings = {"most": recipe.most, "most_held": recipe.most_held}
            found.append(Cell(TABLE, name, kind, 0, settings, _baseline(kind, name, recipe, folder)))
    others = [variant for variant in VARIANTS if variant not in CORE]
    for variant, seed, name in (
        (variant, seed, name)
        for some in (CORE, others)
        for seed in seeds
        for variant in some
        for name in sets
        if scale != "quick" or name not in LONG or variant in JUDGED
    ):
        chosen, recipe = VARIANTS[variant], RECIPES[scale][name]
        settings = {"scale": scale, **recipe.to_json(), "options": chosen.options, "frozen": chosen.frozen}
        settings |= {"means": MEANS, "tested": TESTED} if variant in ANALYSED else {}
        found.append(Cell(TABLE, name, variant, seed, settings, _trained(variant, name, recipe, seed, folder)))
    return found


def score(right: np.ndarray) -> dict[str, Any]:
    """Accuracy with Wilson's interval, and which examples were right."""
    correct, total = int(right.sum()), len(right)
    return {
        "correct": correct,
        "total": total,
        "accuracy": correct / total,
        "interval": wilson(correct, total),
        "right": pack(right),
    }


def _baseline(kind: str, name: str, recipe: Recipe, folder: str | None):
    def compute() -> dict[str, Any]:
        data = dataset(name, folder)
        rights, facts = baseline(kind, data, recipe.most, recipe.most_held)
        return {"test": score(rights), "data": data.describe(), **facts}

    return compute


def _trained(variant: str, name: str, recipe: Recipe, seed: int, folder: str | None):
    def compute() -> dict[str, Any]:
        torch.set_num_threads(1)
        chosen, data = VARIANTS[variant], dataset(name, folder)
        done = train(data, recipe, chosen.options, seed, frozen=chosen.frozen)
        found: dict[str, Any] = {
            "test": score(right(done.model, data.test).numpy()),
            "best": done.best,
            "steps": done.history[-1]["step"],
            "parameters": sum(p.numel() for p in done.model.parameters() if p.requires_grad),
            "data": data.describe(),
        }
        if variant in ANALYSED:
            parts = ablations(done.model, data.train.first(min(MEANS, recipe.most or MEANS)), data.test.first(TESTED))
            for gain in ("realised", "mean"):
                if gain in parts:
                    parts[gain] = {key: score(each) for key, each in parts[gain].items()}
            found["parts"] = parts
        return found

    return compute
