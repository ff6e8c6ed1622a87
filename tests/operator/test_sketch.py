"""Rank bounds from a few probes against the dense singular values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Identity
from mixerlens.normalizer import RowSum
from mixerlens.operator.streams import rows, walk
from mixerlens.readout import Exp, Polynomial
from mixerlens.support import Support

from ..evolution import test_kinds as kinds


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(walk, "BLOCK", 64)
    monkeypatch.setattr(walk, "LOGS", 1)
    monkeypatch.setattr(rows, "ROWS", 32)


def softmax(time=200, dim=3, dtype=torch.float64, **options):
    torch.manual_seed(0)
    q, k = (torch.randn(2, time, 2, dim, dtype=dtype) for _ in range(2))
    return CoefficientDynamics(q, k, Identity(), readout=Exp(), normalizer=RowSum(), **options)


def dense_rank(op, tol, cuts):
    alpha = op.to_dense().numpy()
    ranks = np.zeros(alpha.shape[:2], dtype=int)
    for place in np.ndindex(*alpha.shape[:2]):
        for t in cuts:
            s = np.linalg.svd(alpha[place][t:, :t], compute_uv=False)
            ranks[place] = max(ranks[place], int((s > tol * s[0]).sum()))
    return torch.from_numpy(ranks)


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("probes", [4, 60])
def test_bounds_hold_for_softmax(tol, probes):
    op = softmax().operator()
    exact = dense_rank(op, tol, [70, 100])
    lower, upper = op.state_rank_bounds(tol, [70, 100], probes)
    assert (lower <= exact).all() and (exact <= upper).all()
    assert (lower <= probes).all()


@pytest.mark.parametrize(("tol", "dtype"), [(1e-3, torch.float64), (1e-7, torch.float64), (1e-3, torch.float32)])
def test_bounds_meet_where_the_spectrum_falls_fast(tol, dtype):
    op = softmax(dim=1, dtype=dtype).operator()
    exact = dense_rank(softmax(dim=1).operator(), tol, [70, 100])
    lower, upper = op.state_rank_bounds(tol, [70, 100], 40)
    assert (lower <= exact).all() and (exact <= upper).all()
    assert (upper - lower <= 1).all() and (exact > 3).all()


def test_as_many_probes_as_the_block_is_wide_leave_nothing_open():
    op = softmax(60).operator()
    lower, upper = op.state_rank_bounds(1e-6, [30], 64)
    assert torch.equal(lower, dense_rank(op, 1e-6, [30])) and torch.equal(lower, upper)


def test_too_few_probes_are_said_to_be_too_few():
    lower, upper = softmax().operator().state_rank_bounds(1e-6, [100], 5)
    assert (lower == 5).all() and (upper == 100).all()


@pytest.mark.parametrize("readout", [Polynomial((0.0, 0.0, 1.0)), Polynomial((1.0, 1.0, 0.5))])
def test_polynomials_have_the_rank_of_their_lifting(readout):
    torch.manual_seed(1)
    q, k = (torch.randn(1, 150, 1, 3, dtype=torch.float64) for _ in range(2))
    op = CoefficientDynamics(q, k, readout=readout).operator()
    lower, upper = op.state_rank_bounds(1e-10, 3, 24)
    assert int(lower) == int(upper) == (6 if readout.coefficients[0] == 0 else 10)


@pytest.mark.parametrize(("name", "readout"), [("TestDeltaGated", "identity"), ("TestDiagonalComplex", "identity"),
                                               ("TestDiagonalComplex", "real")])  # fmt: skip
def test_a_finite_state_is_found(name, readout):
    case = getattr(kinds, name)()
    op = case.dynamics(case.leaves(90), readout).operator()
    lower, upper = op.state_rank_bounds(1e-9, [30, 50], 16)
    exact = op.state_rank(1e-9, [30, 50])
    assert (lower <= exact).all() and (exact <= upper).all()
    assert (upper - lower <= 1).all()


def test_bad_requests_are_refused():
    op = softmax(8).operator()
    requests: list[dict[str, Any]] = [{"tol": 0.0}, {"tol": 1.0}, {"probes": 0}, {"cuts": [8]}]
    for bad in requests:
        with pytest.raises(InputError):
            op.state_rank_bounds(**bad)
    with pytest.raises(UnsupportedError, match="causal"):
        softmax(8, support=Support(causal=False)).operator().state_rank_bounds()
