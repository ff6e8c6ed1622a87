"""Principle 2 against linear algebra in numpy, softmax by hand, and gates that close."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, families, principles
from mixerlens.families.attention import with_bias
from mixerlens.normalizer import RowSum
from mixerlens.readout import Exp, Polynomial, Relu
from mixerlens.support import Support


def vectors(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_a_linear_readout_zeroes_all_but_one_dimension():
    found = principles.selectivity(CoefficientDynamics(vectors(1, 60, 2, 5), vectors(1, 60, 2, 5)))
    assert found.zeros == "hyperplane" and found.keys == 16
    assert found.directions.tolist() == [5, 5] and found.zeroable.tolist() == [4, 4]
    assert (found.zeroed == 4).all() and found.alone.tolist() == [0, 0]
    assert found.probability == (1, 0, 0, 0, 0) and found.counts[:3] == (5, 8, 10)


def test_relu_follows_cover_and_its_zeros_are_certain():
    d = CoefficientDynamics(vectors(1, 60, 1, 3), vectors(1, 60, 1, 3), readout=Relu())
    found = principles.selectivity(d, trials=200, targets=3)
    at = found.counts.index(6)
    assert found.cover[at] == 0.5 and found.low[at] <= 0.5 <= found.high[at]
    assert all(low - 0.05 <= c <= high + 0.05 for low, c, high in zip(found.low, found.cover, found.high, strict=True))
    assert float(found.zeroable[0]) == float(found.zeroed.max()) >= 2


def test_every_target_with_repeated_keys():
    """Repeated keys are zeroed with the one they repeat, so the latest m reach farther than general position says."""
    key = vectors(1, 16, 1, 3)
    key[:, 8:] = key[:, 7:8]
    found = principles.selectivity(CoefficientDynamics(vectors(1, 16, 1, 3), key), targets=2)
    order = list(range(15, 0, -1))
    k = key[0, :, 0].numpy()
    most = max(m for m in range(16) if np.linalg.matrix_rank(k[[*order[:m], 0]]) > np.linalg.matrix_rank(k[order[:m]]))
    assert found.zeroed[0].tolist()[0] == most == 10
    assert found.zeroed[0].tolist()[1] == 0  # the last key is the one before it


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_the_share_on_one_key_by_hand(factor):
    query, key = vectors(1, 40, 1, 4), vectors(1, 40, 1, 4)
    found = principles.selectivity(families.softmax_attention(query=query, key=key), factors=(factor,))
    shares = []
    for i in range(20, 40):
        z = np.exp(factor * key[0, : i + 1, 0].numpy() @ query[0, i, 0].numpy() / 2)
        shares.append(z.max() / z.sum())
    shares.sort()
    assert float(found.share) == pytest.approx(shares[9], rel=1e-12)  # of an even number, the lower one
    assert found.zeros == "none" and found.zeroable.tolist() == [0] and found.probability == ()


def test_longer_queries_gather_mass_for_exp_and_for_nothing_linear():
    query, key = vectors(1, 40, 1, 4), vectors(1, 40, 1, 4)
    soft = principles.selectivity(families.softmax_attention(query=query, key=key)).share[0]
    assert (soft.diff() > 0).all() and soft[-1] > 0.9
    flat = principles.selectivity(families.linear_attention(query, key)).share[0]
    assert torch.allclose(flat, flat[:1].expand_as(flat), rtol=1e-12)


def test_gates_zero_columns_for_every_query():
    decay = torch.ones(1, 16, 1, dtype=torch.float64)
    decay[:, 10] = 0
    d = CoefficientDynamics(vectors(1, 16, 1, 2), vectors(1, 16, 1, 2), evolution.Scalar(decay=decay))
    assert float(principles.selectivity(d).forgotten) == 10 / 16
    assert float(principles.selectivity(replace(d, evolution=evolution.Identity())).forgotten) == 0


def test_what_queries_cannot_reach_does_not_count():
    """S4D reads with one query at every token; ALiBi's bias takes no direction of its own away from n + 1."""
    rate = torch.complex(-torch.rand(1, 3) - 0.1, torch.randn(1, 3)).to(torch.complex128)
    s4d = families.s4d(A=rate, B=torch.ones_like(rate), C=torch.ones_like(rate), dt=torch.rand(1), length=40)
    found = principles.selectivity(s4d)
    assert found.directions.tolist() == [1] and found.zeroable.tolist() == [0]
    slope = torch.rand(1, dtype=torch.float64)
    alibi = families.softmax_attention(query=vectors(1, 40, 1, 4), key=vectors(1, 40, 1, 4), alibi=slope)
    found = principles.selectivity(alibi)
    assert found.directions.tolist() == [5] and not found.conditions[2].holds


def test_levels_and_readouts_without_zeros():
    query, key = vectors(1, 30, 1, 3), vectors(1, 30, 1, 3)
    level = principles.selectivity(CoefficientDynamics(query, key, readout=Polynomial((-1, 0, 1))))
    assert level.zeros == "level" and level.zeroable.tolist() == [3] and bool(level.alone.isnan().all())
    # three keys at score 1 and the fourth elsewhere: one query does it, and phi is 0 there
    q = np.linalg.solve(key[0, :3, 0].numpy(), np.ones(3))
    z = key[0, :, 0].numpy() @ q
    assert np.abs(z[:3] ** 2 - 1).max() < 1e-12 < abs(z[3] ** 2 - 1)
    none = principles.selectivity(CoefficientDynamics(query, key, readout=Polynomial((1, 1, 0.5))))
    assert none.zeros == "none" and none.zeroable.tolist() == [0]


def test_keys_outside_the_window_are_not_counted():
    query, key = vectors(1, 40, 1, 5), vectors(1, 40, 1, 5)
    found = principles.selectivity(CoefficientDynamics(query, key, support=Support(window=4)))
    assert found.keys == 4 and found.outside == 12  # of the latest 16
    assert found.directions.tolist() == [4] and found.zeroable.tolist() == [3] and found.alone.tolist() == [1]
    free = principles.selectivity(CoefficientDynamics(query, key))
    assert free.keys == 16 and free.outside == 0 and free.alone.tolist() == [0]


def test_a_gate_in_the_score_forgets_as_well():
    time = 16
    log_forget = torch.full((1, time, 1), -0.01).double()
    log_forget[:, 10] = -60
    query, key = vectors(1, time, 1, 4), vectors(1, time, 1, 4)
    parts = with_bias(query, key, log_forget)
    found = principles.selectivity(CoefficientDynamics(*parts, readout=Exp(), normalizer=RowSum()))
    assert float(found.forgotten) == 10 / 16 and "faded or been erased" in found.meaning
    slope = torch.tensor([2.0]).double()
    alibi = principles.selectivity(families.softmax_attention(query=query, key=key, alibi=slope))
    assert float(alibi.forgotten) == sum(2 * lag >= -math.log(1e-6) for lag in range(16)) / 16


def test_longer_queries_leave_the_bias_as_it_is():
    query, key, slope = vectors(1, 40, 1, 4), vectors(1, 40, 1, 4), 0.7
    d = families.softmax_attention(query=query, key=key, alibi=torch.tensor([slope], dtype=torch.float64))
    found = principles.selectivity(d, factors=(8.0,))
    shares = []
    for i in range(20, 40):
        lag = i - np.arange(i + 1)
        z = np.exp(8 * key[0, : i + 1, 0].numpy() @ query[0, i, 0].numpy() / 2 - slope * lag)
        shares.append(z.max() / z.sum())
    shares.sort()
    assert float(found.share) == pytest.approx(shares[9], rel=1e-12)


def test_cover_counts_half_spaces_and_no_hyperplanes():
    query, key = vectors(1, 30, 1, 3), vectors(1, 30, 1, 3)
    linear = principles.selectivity(CoefficientDynamics(query, key))
    assert linear.cover == () and linear.probability
    assert len(principles.selectivity(CoefficientDynamics(query, key, readout=Relu())).cover) == 5
    assert "not this mixer's" in linear.labels["probability"]
    assert "k and -k equally likely" in linear.theorem and "not repeated" in linear.theorem
