"""Principle 3 against a token-by-token loop in numpy, and the families whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, families, principles
from mixerlens.errors import InputError
from mixerlens.normalizer import RowSum
from mixerlens.readout import Exp, Polynomial, Relu
from mixerlens.support import Support


def vectors(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("readout", [Exp(), Relu(), Polynomial((1, 1, 0.5))])
@pytest.mark.parametrize("support", [Support(), Support(window=9), Support(causal=False)])
def test_a_still_mixer_sees_a_set(readout, support):
    query, key = vectors(1, 30, 2, 4), vectors(1, 30, 2, 4)
    d = CoefficientDynamics(
        query, key, readout=readout, normalizer=RowSum(), support=support, scaling=vectors(1, 30, 2).abs()
    )
    found = principles.position(d)
    assert (found.largest < 1e-14).all() and not found.inert.any() and found.conditions[0].holds
    assert found.seen == (8 if support.window else 29)


def last_row(query, key, beta, log_decay):
    """alpha of the last row of a gated delta rule, by carrying every impulse."""
    time = len(key)
    row = np.zeros(time)
    for j in range(time):
        u = beta[j] * key[j]
        for t in range(j + 1, time):
            u = np.exp(log_decay[t]) * (u - beta[t] * key[t] * (key[t] @ u))
        row[j] = query[-1] @ u
    return row


def test_the_reversal_of_a_delta_rule_by_hand():
    time = 14
    query, key = vectors(1, time, 1, 3), vectors(1, time, 1, 3)
    key = key / key.norm(dim=-1, keepdim=True)
    g, beta = -torch.rand(1, time, 1, dtype=torch.float64), torch.rand(1, time, 1, dtype=torch.float64)
    found = principles.position(families.gated_delta_net(query, key, g, beta))
    parts = [x[0, :, 0].numpy() for x in (query, key, beta, g)]
    before = last_row(*parts)
    for order, measured in (
        ([*range(time - 2, -1, -1), time - 1], found.reversed),
        ([*range(time - 3), time - 2, time - 3, time - 1], found.swapped),
    ):
        after = last_row(parts[0], *(x[order] for x in parts[1:]))
        # the family's default scale of the query cancels
        assert float(measured) == pytest.approx(np.abs(after - before[order]).sum() / np.abs(before).sum(), rel=1e-10)
    assert float(found.largest) >= max(float(found.reversed), float(found.swapped)) > 0.1


def test_positions_inside_the_mixer_are_noticed():
    query, key = vectors(1, 40, 1, 4), vectors(1, 40, 1, 4)
    turned = families.softmax_attention(query=query, key=key, rope=torch.tensor([1.0, 0.1]))
    biased = families.softmax_attention(query=query, key=key, alibi=torch.tensor([0.3]))
    for d in (turned, biased):
        found = principles.position(d)
        assert float(found.swapped) > 1e-3 and float(found.distance) > 0.01 and not found.inert.any()


def test_what_moves_with_a_token():
    """A decay a token: as a gate it moves with its token, as a function of the position it stays."""
    time = 12
    query, key, decay = torch.ones(1, time, 1, 1).double(), torch.ones(1, time, 1, 1).double(), torch.rand(1, time, 1)
    d = CoefficientDynamics(query, key, evolution.Scalar(decay=decay.double()))
    still = principles.position(d, moves=False)
    a = decay[0, :, 0].double().numpy()
    row = np.array([np.prod(a[j + 1 :]) for j in range(time)])
    order = [*range(time - 2, -1, -1), time - 1]
    assert float(still.reversed) == pytest.approx(np.abs(row - row[order]).sum() / row.sum(), rel=1e-12)
    moved = np.array([np.prod(a[order][j + 1 :]) for j in range(time)])
    found = principles.position(d)
    assert float(found.reversed) == pytest.approx(np.abs(moved - row[order]).sum() / row.sum(), rel=1e-12)


def test_seeds_and_refusals():
    d = families.retention(vectors(1, 20, 1, 2), vectors(1, 20, 1, 2), torch.tensor([0.9]))
    first, again, other = (principles.position(d, seed=s).change for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == (1, 10)
    assert "no order" in principles.position(d.select_tokens(0, 2)).silent
    with pytest.raises(InputError, match="permutations is 0"):
        principles.position(d, permutations=0)
