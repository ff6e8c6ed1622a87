"""What EXPLICIT's trials found of trained models, on the specimen: what holds of it, and what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mixerlens import explicit
from mixerlens.data import digits
from mixerlens.errors import UnsupportedError
from mixerlens.models.s4d import load_s4d

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "specimens" / "digits-s4d"


@pytest.fixture(scope="module")
def model():
    return load_s4d(DIGITS, torch.float64)


def test_waves_alone_and_two_by_two_pull_against_each_other_but_do_not_nearly_cancel(model):
    """Waves of single time steps with themselves, i = j, and two by two, i != j: correlations over the 32 digits by
    class, in trials about -0.98. On the specimen that is the most, and a class has half of it."""
    examples = torch.from_numpy(np.load(DIGITS / "examples.npy")).double()
    classes = (2, 8, 9)
    alone, together = np.zeros((2, len(classes), len(examples)))
    for k, digit in enumerate(examples):
        forward = explicit.record(model, digit, 0)
        for c, target in enumerate(classes):
            found = explicit.pair_form(replace(forward, target=target), 64).interactions[:-1, :-1]
            alone[c, k] = found.diagonal().sum()
            together[c, k] = found.sum() - alone[c, k]
    by_class = [np.corrcoef(one, other)[0, 1] for one, other in zip(alone, together, strict=True)]
    assert by_class == pytest.approx([-0.783, -0.971, -0.517], abs=0.002)
    # what is left of the larger of them in their sum: a quarter where they nearly cancel, most of it where they do not
    left = np.std(alone + together, axis=1) / np.maximum(np.std(alone, axis=1), np.std(together, axis=1))
    assert left == pytest.approx([0.626, 0.244, 0.865], abs=0.003)


def test_activations_reach_26_in_the_last_block_and_6_in_the_first(model):
    """|y| over the whole test part (trials: 18 to 30): Taylor orders are no account there, and are refused."""
    largest = []
    with torch.no_grad():
        x = model.encoder(digits("test").inputs.double())
        for layer in model.layers:
            largest.append(float(layer.s4d(layer.norm(x)).abs().max()))
            x = layer(x)
    assert largest == pytest.approx([6.01, 26.17], abs=0.01)
    with pytest.raises(UnsupportedError, match="float64"):
        explicit.series.certify("gelu", 120, largest[1], 1e-3)


def test_activations_of_the_studys_models_reach_8_to_hundreds():
    """Stored with every run of the study, one block each: 18 to 30 is their middle, not their range."""
    rows = json.loads((ROOT / "docs" / "explicit-operator.json").read_text())["tables"]["sets"]
    reached = {
        name: [run["parts"]["range"] for kind in ("full", "gelu only") for run in variants.get(kind, {}).values()]
        for name, variants in rows.items()
    }
    every = sorted(value for some in reached.values() for value in some)
    assert every[0] > 8 and every[-1] > 40 and sum(18 <= value <= 30 for value in every) >= 5
    assert max(reached["digits"]) < 18 and min(reached["BasicMotions"]) > 25
