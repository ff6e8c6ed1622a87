"""A mixer built in float64 and asked for in float32: right, or refused by the number that does not fit."""

from __future__ import annotations

import pytest
import torch

from mixerlens import CoefficientDynamics, families
from mixerlens.errors import InputError
from mixerlens.evolution import Identity
from mixerlens.normalizer import RowSum, RowSumFloor
from mixerlens.readout import Exp

TIME = 40


def gates(peak):
    """Input gates of which the last is far above the others."""
    torch.manual_seed(0)
    x = torch.randn(1, TIME, 1, dtype=torch.float64)
    x[0, -1] = peak
    return x


def mlstm(peak):
    q, k = torch.randn(2, 1, TIME, 1, 4, dtype=torch.float64)
    return families.mlstm(q, k, gates(peak), -torch.rand(1, TIME, 1, dtype=torch.float64))


def rwkv4(peak):
    return families.rwkv4(gates(peak), -torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("build", [mlstm, rwkv4])
@pytest.mark.parametrize("peak", [0.0, 30.0, 60.0])
def test_a_cast_that_fits_is_right_in_every_row(build, peak):
    d = build(peak)
    v = torch.randn(1, TIME, 1, 1, dtype=torch.float64)
    want, got = d.operator() @ v, d.to(torch.float32).operator() @ v.float()
    assert got.dtype == torch.float32
    terms = (d.operator().to_dense().abs() @ v.abs().transpose(1, 2)).transpose(1, 2)  # rows may cancel
    assert ((got - want).abs() <= 5e-6 * terms).all()


@pytest.mark.parametrize("build", [mlstm, rwkv4])
@pytest.mark.parametrize("peak", [100.0, 200.0])
def test_a_cast_that_empties_a_row_sum_is_refused(build, peak):
    with pytest.raises(InputError, match=r"holds .*e-\d+, which torch.float32 does not: stay in torch.float64"):
        build(peak).to(torch.float32)


def test_a_cast_that_overflows_is_refused():
    x = torch.full((1, 3, 1, 2), 1e200, dtype=torch.float64)
    with pytest.raises(InputError, match="query holds 1e\\+200"):
        CoefficientDynamics(x, x / 1e200, Identity()).to(torch.float32)


def test_small_numbers_may_go_where_nothing_divides_by_them():
    x = torch.full((1, 3, 1, 2), 1e-200, dtype=torch.float64)
    for options in ({}, {"readout": Exp(), "normalizer": RowSum()}):
        assert CoefficientDynamics(x, x, Identity(), **options).to(torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    ("floor", "told"),
    [(1.0, "got 1.0"), (-torch.ones(1, 1, 1), "smallest value is -1"), (torch.ones(2), r"got \(2,\)")],
)
def test_a_floor_that_is_none_is_refused(floor, told):
    with pytest.raises(InputError, match=told):
        RowSumFloor(floor)


def test_a_floor_needs_a_linear_readout():
    x = torch.ones(1, 3, 1, 2)
    with pytest.raises(InputError, match="linear readouts"):
        CoefficientDynamics(x, x, Identity(), readout=Exp(), normalizer=RowSumFloor(torch.ones(1, 1, 1)))
