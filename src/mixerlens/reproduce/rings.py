"""The table "rings": whether the rings of a trained layer still carry waves, and whether that matters.

An S4D-Lin layer starts with frequencies pi n, equally spaced, so that a pulse goes around each ring without spreading.
Training moves them. For several learning rates of dt and A: how far, how many nodes carry a pulse after a quarter and
half a lap, beside random orders of the same modes (a lap itself tells nothing: there every order refocuses), how much
the group velocity varies around the ring, and the accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ..models.s4d import S4DBlock, S4DClassifier
from ..ring import from_ssm, waves
from .classifiers import RECIPES, dataset, score
from .store import Cell
from .training import Recipe, right, train

__all__ = ["RATES", "SETS", "cells", "coherence", "drift"]

TABLE = "rings"
RATES = (1e-4, 1e-3, 1e-2)
SETS = ("digits", "JapaneseVowels")
NULLS = 20


def cells(scale: str, sets: Sequence[str], seeds: Sequence[int], folder: str | None = None) -> list[Cell]:
    """A training for every set, learning rate of dt and A, and seed."""
    found = []
    for seed in seeds:
        for name in sets:
            for rate in RATES:
                recipe = RECIPES[scale][name].with_system_rate(rate)
                settings = {"scale": scale, **recipe.to_json(), "nulls": NULLS}
                compute = _cell(name, recipe, seed, folder)
                found.append(Cell(TABLE, name, f"rate {rate:g}", seed, settings, compute))
    return found


def drift(model: S4DClassifier, initial: S4DClassifier) -> dict[str, float]:
    """How far the frequencies moved, in units of their spacing pi: quantiles over modes and features."""
    before, after = (
        [cast(S4DBlock, layer).s4d.frequency.detach().double() for layer in m.layers] for m in (initial, model)
    )
    moved = [(a - b).abs() / math.pi for a, b in zip(after, before, strict=True)]
    every = torch.cat([each.flatten() for each in moved])
    return {"median": float(every.median()), "nine in ten": float(every.quantile(0.9)), "largest": float(every.max())}


def coherence(model: S4DClassifier) -> dict[str, float | int]:
    """Medians over the rings of all layers: nodes that carry a pulse, its null, spread of the group velocity."""
    found: dict[str, list[Tensor]] = {}
    for layer in model.layers:
        seen = waves(from_ssm(layer.s4d), laps=1, nulls=NULLS)
        numbers = {name: getattr(seen, name) for name in ("quarter", "quarter_null", "half", "half_null")}
        numbers |= {"spread": seen.dispersion.spread, "lap_time": seen.dispersion.lap_time}
        for name, values in numbers.items():
            found.setdefault(name, []).append(values.double())
    every = {name: torch.cat(values) for name, values in found.items()}
    medians: dict[str, float | int] = {name: float(values.nanmedian()) for name, values in every.items()}
    return medians | {"rings": int((~every["quarter"].isnan()).sum()), "nodes": model.config.modes}


def _cell(name: str, recipe: Recipe, seed: int, folder: str | None):
    def compute() -> dict[str, Any]:
        torch.set_num_threads(1)
        data = dataset(name, folder)
        done = train(data, recipe, {}, seed)
        return {
            "test": score(right(done.model, data.test).numpy()),
            "best": done.best,
            "drift": drift(done.model, done.initial),
            "trained": coherence(done.model),
            "initial": coherence(done.initial),
            "data": data.describe(),
        }

    return compute
