"""Removal of segments, by the model in numpy; the Hessian, by finite differences; and where all answers agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from explicit.dense import Dense, cut, tiny
from explicit.test_gate import ACTIVATIONS, OUTPUTS
from mixerlens.errors import InputError
from mixerlens.explicit.hessian import segment_curvature
from mixerlens.explicit.layer import record
from mixerlens.explicit.pairs import pair_form
from mixerlens.explicit.ranks import rank_correlation
from mixerlens.explicit.removal import removal

BASELINES = {"zero": None, "mean": torch.tensor([0.5, -1.0]), "curve": torch.linspace(0, 1, 26).view(13, 2)}


@pytest.mark.parametrize("name", BASELINES)
def test_effects_and_synergies_are_those_of_the_model(name):
    model, inputs = tiny(norm="layer", layers=2), torch.randn(13, 2, dtype=torch.float64)
    forward = record(model, inputs, 2)
    account = pair_form(forward, 4, BASELINES[name])
    seen = []
    found = removal(forward, account, pairs=None, progress=lambda done, total: seen.append((done, total)))
    away = np.broadcast_to(0 if BASELINES[name] is None else BASELINES[name].numpy(), (13, 2))

    def without(*segments):
        left = inputs.numpy().copy()
        for g in segments:
            left[found.borders[g] : found.borders[g + 1]] = away[found.borders[g] : found.borders[g + 1]]
        return Dense(model, left).logits[2]

    assert found.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert found.effects.tolist() == pytest.approx([without() - without(g) for g in range(4)], abs=1e-12)
    synergies = [without() - without(g) - without(k) + without(g, k) for g, k in found.pairs.tolist()]
    assert found.synergy.tolist() == pytest.approx(synergies, abs=1e-12)
    assert seen[-1] == (10, 10)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_joins_the_bias_wave(name):
    """Waves of what differs from it; the sum stays the logit, and so does everything in the dense account."""
    model, inputs = tiny(norm="layer"), torch.randn(13, 2, dtype=torch.float64)
    away = torch.zeros(13, 2, dtype=torch.float64) if BASELINES[name] is None else BASELINES[name].double()
    found = pair_form(record(model, inputs, 0), 4, BASELINES[name])
    dense = Dense(model, inputs.numpy())
    waves = cut((inputs - away).numpy(), found.borders)
    rest = away.expand_as(inputs).numpy()[None]
    constant, linear, pairs = dense.pairs(np.concatenate([waves, rest]), 0)
    join = np.eye(6)[[0, 1, 2, 3, 4, 4]]  # the baseline's wave and the biases' are the fifth
    join = join[:, :5]
    assert found.constant == pytest.approx(constant, rel=1e-12)
    assert found.linear.numpy() == pytest.approx(join.T @ linear, abs=1e-12)
    assert found.interactions.numpy() == pytest.approx(join.T @ pairs @ join, abs=1e-12)
    assert found.total == pytest.approx(dense.logits[0], rel=1e-12)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_curvature_is_that_of_finite_differences(activation, output):
    norm = "layer" if output == "linear" else "none"
    model = tiny(activation=activation, output=output, norm=norm, layers=2).requires_grad_(output == "glu")
    inputs = torch.randn(9, 2, dtype=torch.float64)
    borders = (0, 2, 5, 9)
    found = segment_curvature(record(model, inputs, 1), borders, torch.zeros_like(inputs))
    waves = cut(inputs.numpy(), borders)

    def second(u, v, step):
        f = lambda a, b: Dense(model, inputs.numpy() + step * (a * u + b * v)).logits[1]
        return (f(1, 1) - f(1, -1) - f(-1, 1) + f(-1, -1)) / (4 * step**2)

    for g, k in ((0, 0), (0, 1), (2, 1)):
        fine, coarse = (second(waves[g], waves[k], step) for step in (5e-4, 1e-3))
        second_difference = (4 * fine - coarse) / 3  # a norm over three features bends sharply
        assert float(found[g, k]) == pytest.approx(second_difference, rel=1e-5, abs=1e-6)
    assert torch.allclose(found, found.T, rtol=0, atol=1e-13)


def of_degree_two(**options):
    """Small waves without biases see GELU as y / 2 + y^2 / sqrt(2 pi)."""
    model = tiny(**options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name:
                parameter.zero_()
    forward = record(model, 1e-4 * torch.randn(40, 2, dtype=torch.float64), 0)
    return removal(forward, pair_form(forward, 5), pairs=None, hessian=True)


def test_all_three_answers_agree_where_one_block_is_of_degree_two():
    found = of_degree_two(output="linear")
    g, k = found.pairs.T
    size = float(found.account.abs().max())
    assert size > 0
    # second differences of a logit of 1e-4 that are 1e-8 large: rounding leaves six digits of them
    assert torch.allclose(found.synergy / size, found.account / size, rtol=0, atol=1e-5)
    assert torch.allclose(found.curvature[g, k] / size, found.account / size, rtol=0, atol=1e-5)
    assert found.effects.tolist() == pytest.approx(found.account_effects.tolist(), rel=1e-9)
    assert found.synergy_rank_correlation == found.curvature_rank_correlation == 1


@pytest.mark.parametrize("options", [{"output": "linear", "layers": 2}, {"output": "glu"}])
def test_behind_another_gate_the_account_is_not_the_synergy(options):
    """Pairs that meet in the first block or in the GLU belong to both other answers, not to the account."""
    found = of_degree_two(**options)
    g, k = found.pairs.T
    size = float(found.synergy.abs().max())
    assert torch.allclose(found.synergy / size, found.curvature[g, k] / size, rtol=0, atol=1e-4)
    assert float((found.account - found.synergy).abs().max()) > 0.02 * size  # against 1e-4 above


def test_a_linear_model_has_no_synergy():
    forward = record(tiny(activation="identity", output="none", layers=2), torch.randn(20, 2), 0)
    found = removal(forward, pair_form(forward, 4), hessian=True)
    assert float(found.synergy.abs().max()) < 1e-13 and not found.account.any() and not found.curvature.any()
    assert found.effects.tolist() == pytest.approx(found.account_effects.tolist(), rel=1e-11)


def test_only_the_largest_pairs(digits_s4d, digits):
    from mixerlens.models.s4d import load_s4d

    forward = record(load_s4d(digits_s4d), digits[1])
    account = pair_form(forward, 16)
    every, some, none = (removal(forward, account, pairs=pairs) for pairs in (None, 7, 0))
    assert len(every.pairs) == 120 and none.pairs.shape == (0, 2) and math.isnan(none.synergy_rank_correlation)
    order = every.account.abs().argsort(descending=True)[:7]
    assert torch.equal(some.pairs, every.pairs[order])
    assert torch.allclose(some.synergy, every.synergy[order], rtol=0, atol=1e-13)
    assert every.curvature is None and every.to_json()["curvature_rank_correlation"] is None
    want = spearmanr(every.synergy.numpy(), every.account.numpy()).statistic
    assert every.to_json()["synergy_rank_correlation"] == pytest.approx(want, rel=1e-12)


def test_rank_correlation_with_ties():
    one, other = np.random.default_rng(0).integers(0, 6, (2, 40)).astype(float)
    assert rank_correlation(*map(torch.from_numpy, (one, other))) == pytest.approx(spearmanr(one, other).statistic)
    assert math.isnan(rank_correlation(torch.ones(3), torch.arange(3.0)))


def test_what_cannot_be_removed():
    forward = record(tiny(), torch.randn(9, 2), 0)
    with pytest.raises(InputError, match="pairs -1: give a number"):
        removal(forward, pair_form(forward, 3), pairs=-1)
    for part in (2.5, True):
        with pytest.raises(InputError, match=f"pairs {part}: give a number"):
            removal(forward, pair_form(forward, 3), pairs=part)
        with pytest.raises(InputError, match=f"segments {part}: give a whole number"):
            pair_form(forward, part)
    with pytest.raises(InputError, match=r"a baseline is finite numbers \(9, 2\) or \(2,\) for this input, not \(9,\)"):
        pair_form(forward, 3, torch.zeros(9))
    with pytest.raises(InputError, match="a baseline is finite numbers"):
        pair_form(forward, 3, torch.full((2,), torch.nan))
