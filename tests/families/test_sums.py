"""Sums of |alpha| of every family over several blocks, against the matrix that its plain reference writes."""

from __future__ import annotations

import pytest
import torch

from families.helpers import error
from mixerlens.families import FAMILIES, Draw

TIME = 300  # not a multiple of any block, and the last rows are fewer than half of one
BARS = {"hippo_legs": 1e-9}  # ours and the reference's powers (t / (t + 1))^A differ by 3e-11 at the late tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_sums_are_those_of_the_matrix(monkeypatch, name):
    monkeypatch.setattr(Draw, "time", TIME)
    monkeypatch.setattr(Draw, "batch", 1)
    family = FAMILIES[name]
    given = family.arguments(5)
    value = given.pop("value")
    unit = torch.eye(TIME, dtype=value.dtype).view(1, TIME, *[1] * (value.dim() - 3), TIME)
    alpha = family.recurrence_by_hand(value=unit.expand(*value.shape[:-1], TIME), **given).abs()  # a row a token
    op, bar = family.function(**given).operator(), BARS.get(name, 10 * family.bar)
    lag = (torch.arange(TIME)[:, None] - torch.arange(TIME)).abs()[None, :, None]
    mass = alpha.sum(-1)
    assert error(op.row_mass(), mass) <= bar
    assert error(op.column_mass(), alpha.sum(1).mT) <= bar
    assert error(op.mean_distance().nan_to_num() * mass, (alpha * lag).sum(-1)) <= bar
    assert error(op.top_k(3)[0].abs(), alpha.topk(3, -1).values) <= bar
