"""The pair form against dense Toeplitz matrices and a double sum over waves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from explicit.dense import Dense, cut, tiny
from explicit.test_gate import ACTIVATIONS, NORMS, OUTPUTS
from mixerlens.errors import InputError, MemoryBudgetError
from mixerlens.explicit.layer import record
from mixerlens.explicit.pairs import pair_form, segment_borders
from mixerlens.models.s4d import load_s4d


def assert_is(found, want, logit):
    constant, linear, pairs = want
    size = max(abs(constant), np.abs(linear).max(), np.abs(pairs).max())
    assert abs(found.constant - constant) < 1e-12 * size
    assert np.abs(found.linear.numpy() - linear).max() < 1e-12 * size
    assert np.abs(found.interactions.numpy() - pairs).max() < 1e-12 * size
    assert abs(found.total - logit) < 1e-12 * max(size, abs(logit))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_waves_and_their_interactions(activation, output, norm, layers):
    """70 steps are a chunk and a short one; 8 segments have 8 or 9 steps, and one lies across the chunks' border."""
    model = tiny(activation=activation, output=output, norm=norm, layers=layers, explicit_b=layers == 2)
    inputs = torch.randn(70, 2, dtype=torch.float64)
    dense = Dense(model, inputs.numpy())
    found = pair_form(record(model, inputs, 1), segments=8)
    assert found.borders == (0, 8, 17, 26, 35, 43, 52, 61, 70)
    assert_is(found, dense.pairs(cut(inputs.numpy(), found.borders), 1), dense.logits[1])
    assert torch.equal(found.interactions, found.interactions.T)
    if activation == "identity":
        assert not found.interactions.any()


def test_waves_go_on_through_many_chunks():
    model = tiny(layers=2, norm="layer", step_range=(0.05, 0.2))
    inputs = torch.randn(300, 2, dtype=torch.float64)
    dense = Dense(model, inputs.numpy())
    found = pair_form(record(model, inputs, 0), segments=3)
    assert_is(found, dense.pairs(cut(inputs.numpy(), found.borders), 0), dense.logits[0])


def test_the_trained_specimen(digits_s4d, digits):
    model = load_s4d(digits_s4d).double()
    for segments, inputs in zip((32, 64, 5), digits, strict=False):
        with torch.no_grad():
            logits = model(inputs[None].double())[0]
        target = int(logits.argmax())
        found = pair_form(record(model, inputs), segments)
        dense = Dense(model, inputs.double().numpy())
        assert_is(found, dense.pairs(cut(inputs.double().numpy(), found.borders), target), float(logits[target]))
        assert found.total == pytest.approx(float(logits[target]), rel=1e-12)


def test_a_finer_cut_adds_up_to_the_coarser_one(digits_s4d, digits):
    model = load_s4d(digits_s4d)
    coarse, fine = (pair_form(record(model, digits[3]), segments) for segments in (8, 32))
    merge = torch.zeros(9, 33, dtype=torch.float64)
    merge[torch.tensor([*(k // 4 for k in range(32)), 8]), torch.arange(33)] = 1
    assert torch.allclose(merge @ fine.linear, coarse.linear, rtol=0, atol=1e-13)
    assert torch.allclose(merge @ fine.interactions @ merge.T, coarse.interactions, rtol=0, atol=1e-12)
    assert coarse.total == pytest.approx(fine.total, rel=1e-13)


def test_what_is_held_is_said():
    inputs = torch.randn(9, 2)
    (only,) = pair_form(record(tiny(output="linear"), inputs)).held
    assert only == "block 0: the curvature of gelu at each y, the gain of its pairs"
    assert pair_form(record(tiny(activation="identity", output="none", layers=2), inputs)).held == ()
    held = pair_form(record(tiny(activation="silu", norm="layer", layers=2), inputs)).held
    assert [text.partition(":")[0] for text in held] == ["block 0"] * 3 + ["block 1"] * 3
    assert "silu(y) / y" in held[1] and "curvature of silu" in held[4] and "GLU" in held[5]


def test_what_the_account_says_of_a_removal():
    """Linear and pair terms that contain a segment, by taking it out of a sum over all of them."""
    found = pair_form(record(tiny(), torch.randn(40, 2)), 5)
    for g in range(5):
        rest = [k for k in range(6) if k != g]
        without = found.constant + found.linear[rest].sum() + found.interactions[rest][:, rest].sum()
        assert float(found.removal_effects[g]) == pytest.approx(found.total - float(without), rel=1e-12)


def test_segments():
    assert segment_borders(10, 3) == (0, 3, 6, 10)
    assert segment_borders(2, 32) == (0, 1, 2)
    with pytest.raises(InputError, match="segments 0: at least one"):
        pair_form(record(tiny(), torch.zeros(5, 2)), 0)


def test_more_waves_than_memory(monkeypatch):
    forward = record(tiny(), torch.zeros(2000, 2))
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", str(2**20))
    with pytest.raises(MemoryBudgetError, match=r"a chunk of the waves needs .* ask for fewer segments"):
        pair_form(forward, 2000)
    assert len(pair_form(forward, 50).linear) == 51


def test_json_has_labels_and_strict_numbers():
    found = pair_form(record(tiny(), torch.randn(9, 2)), 3).to_json()
    assert found["measure"] == "PairForm" and np.shape(found["interactions"]) == (4, 4)
    assert set(found["labels"]) <= set(found) and "Bookkeeping of this pass" in found["labels"]["interactions"]
