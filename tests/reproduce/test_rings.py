"""Drift by hand, and coherence where the answer is known: frequencies equally spaced, and drawn at random."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from mixerlens.reproduce.rings import RATES, cells, coherence, drift
from mixerlens.reproduce.training import Recipe, build


@pytest.fixture
def fresh(tiny):
    return build(tiny, Recipe(steps=1, batch=4, features=6, modes=16), {}, 0)


def test_drift_is_counted_in_spacings(fresh):
    moved = copy.deepcopy(fresh)
    with torch.no_grad():
        moved.layers[0].s4d.frequency[:3] += 0.5 * math.pi
        moved.layers[0].s4d.frequency[0, 0] -= 2 * math.pi
    found = drift(moved, fresh)
    assert found["nine in ten"] == pytest.approx(0.5, abs=1e-5)
    assert found["largest"] == pytest.approx(1.5, abs=1e-5)
    assert drift(fresh, fresh) == {"median": 0, "nine in ten": 0, "largest": 0}


def test_a_fresh_layer_carries_pulses_and_random_frequencies_do_not(fresh):
    found = coherence(fresh)
    assert found["quarter"] < 1.5 and found["half"] < 1.5 and found["spread"] < 1e-5
    assert found["quarter_null"] > 6 and found["nodes"] == 16 and found["rings"] == 6
    with torch.no_grad():
        fresh.layers[0].s4d.frequency.copy_(16 * math.pi * torch.rand(6, 16))
    lost = coherence(fresh)
    assert lost["quarter"] > 4 and lost["spread"] > 0.3


def test_a_cell_a_rate_set_and_seed():
    found = cells("quick", ["digits"], [0, 1])
    assert len(found) == 2 * len(RATES) and len({cell.name for cell in found}) == len(found)
    assert {cell.settings["system_rate"] for cell in found} == set(RATES)
