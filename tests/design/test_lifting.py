"""Lifted dynamics against the oracle of the readout itself: every kind of evolution, exact to rounding."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, readout
from mixerlens.design.lifting import SymmetricPowers, lift, lifted_dim, power
from mixerlens.errors import MemoryBudgetError, UnsupportedError
from mixerlens.normalizer import RowSum, RowSumSink
from mixerlens.operator.oracle import oracle_coefficients

BATCH, TIME, HEADS, DIM = 2, 19, 2, 4
TAYLOR = (1.0, 1.0, 0.5)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + len(shape)))


def open_gates(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def units(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(normal(*shape, seed=7), dim=-1)


TOKEN = (BATCH, TIME, HEADS)
KINDS = {
    "identity": evolution.Identity(),
    "scalar": evolution.Scalar(log_decay=-open_gates(*TOKEN)),
    "scalar of both signs": evolution.Scalar(decay=normal(*TOKEN)),
    "closed scalar": evolution.Scalar(log_decay=torch.where(open_gates(*TOKEN) > 0.8, -math.inf, 0.0)),
    "diagonal": evolution.Diagonal(log_decay=-open_gates(*TOKEN, DIM)),
    "rate": evolution.Diagonal(rate=-open_gates(HEADS, DIM), step_size=open_gates(*TOKEN)),
    "rotation": evolution.Rotation(normal(*TOKEN, DIM // 2)),
    "delta": evolution.Delta(units(*TOKEN, DIM), 1.9 * open_gates(*TOKEN), log_decay=-0.1 * open_gates(*TOKEN)),
    "dense": evolution.Dense(0.4 * normal(*TOKEN, DIM, DIM)),
    "unipotent": evolution.Unipotent(-open_gates(HEADS)),
    "rank one": evolution.DiagonalPlusRankOne(-units(*TOKEN, DIM), units(*TOKEN, DIM), decay=open_gates(*TOKEN, DIM)),
    "micro steps": evolution.MicroSteps(units(*TOKEN, 2, DIM), open_gates(*TOKEN, 2)),
    "shift": evolution.Shift(),
    "read before write": evolution.ReadBeforeWrite(evolution.Diagonal(log_decay=-open_gates(*TOKEN, DIM // 2))),
    "trapezoid": evolution.Trapezoid(evolution.Scalar(log_decay=-open_gates(*TOKEN)), open_gates(*TOKEN)),
    "momentum": evolution.Momentum(units(*TOKEN, DIM // 2), open_gates(*TOKEN), 0.5 * open_gates(*TOKEN)),
}


def dynamics(kind: evolution.Evolution, phi: readout.Readout, dim: int = DIM, normalizer=None) -> CoefficientDynamics:
    parts = {} if normalizer is None else {"normalizer": normalizer}
    return CoefficientDynamics(
        0.5 * normal(*TOKEN, dim, seed=3), 0.5 * normal(*TOKEN, dim, seed=4), kind,
        scaling=open_gates(*TOKEN, seed=5), readout=phi, **parts,
    )  # fmt: skip


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("coefficients", [TAYLOR, (0.0, 0.0, 1.0), (0.3, 0.0, 0.0, 1.0)])
@pytest.mark.parametrize("name", KINDS)
def test_a_polynomial_is_linear_in_the_symmetric_powers(name, coefficients):
    d = dynamics(KINDS[name], readout.Polynomial(coefficients))
    lifted = lift(d)
    assert lifted.recurrent
    assert lifted.dim == sum(math.comb(DIM + e - 1, e) for e, c in enumerate(coefficients) if c)
    wanted = oracle_coefficients(d)
    assert error(oracle_coefficients(lifted), wanted) < 5e-15
    v = normal(*TOKEN, 3)
    y = (wanted @ v.transpose(1, 2)).transpose(1, 2)
    assert error(lifted.operator() @ v, y) < 5e-15  # by the scan, which the readout itself would not allow


@pytest.mark.parametrize("normalizer", [RowSum(), RowSumSink(torch.tensor([0.3, -1.0], dtype=torch.float64))])
def test_row_sums_and_sinks_go_along(normalizer):
    d = dynamics(KINDS["delta"], readout.Polynomial(TAYLOR), normalizer=normalizer)
    assert error(oracle_coefficients(lift(d)), oracle_coefficients(d)) < 1e-14


def test_the_powers_are_those_of_an_inner_product():
    x, y = normal(5, 6, seed=1), normal(5, 6, seed=2)
    for degree in range(5):
        found = (power(x, degree) * power(y, degree)).sum(-1)
        assert power(x, degree).shape[-1] == math.comb(6 + degree - 1, degree)
        torch.testing.assert_close(found, (x * y).sum(-1) ** degree, rtol=1e-13, atol=1e-14)


def test_householder_maps_stay_orthogonal_and_eigenvalues_are_products():
    """Sym^2 of a diagonal map has the products of its eigenvalues."""
    inner = KINDS["diagonal"]
    a = inner.eigenvalues()[0, 0, 0].real
    found = SymmetricPowers(inner, DIM, (2,)).eigenvalues()[0, 0, 0].real
    pairs = sorted(float(a[i] * a[j]) for i in range(DIM) for j in range(i, DIM))
    assert sorted(found.tolist()) == pytest.approx(pairs)
    reflection = evolution.Delta(units(1, 1, 1, DIM), torch.full((1, 1, 1), 2.0, dtype=torch.float64))
    matrix = SymmetricPowers(reflection, DIM, (2,)).step(torch.eye(10, dtype=torch.float64)[None, None], 0)[0, 0]
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["identity", "scalar of both signs"])
def test_relu_of_one_number_has_two(name):
    d = dynamics(KINDS[name], readout.Relu(), dim=1)
    lifted = lift(d)
    assert lifted.dim == 2 == lifted_dim(d.readout, 1)
    torch.testing.assert_close(oracle_coefficients(lifted), oracle_coefficients(d), rtol=0, atol=0)
    long = CoefficientDynamics(normal(1, 64, 1, 1), normal(1, 64, 1, 1, seed=9), readout=readout.Relu())
    assert int(long.operator().state_rank(1e-10)) == 2


def test_a_linear_readout_needs_no_lifting():
    d = dynamics(KINDS["delta"], readout.Identity())
    assert lift(d) is d


def test_gradients_pass_the_lifting():
    query, key = (normal(1, 6, 1, 3, seed=s).requires_grad_() for s in (1, 2))
    beta = open_gates(1, 6, 1).requires_grad_()
    v = normal(1, 6, 1, 2)

    def outputs(change):
        d = CoefficientDynamics(query, key, evolution.Delta(key, beta), readout=readout.Polynomial(TAYLOR))
        return torch.autograd.grad((change(d).operator() @ v).square().sum(), (query, key, beta))

    for found, wanted in zip(outputs(lift), outputs(lambda d: d), strict=True):
        assert error(found, wanted) < 1e-12


@pytest.mark.parametrize("phi", [readout.Exp(), readout.Relu(), readout.Sigmoid(), readout.Softcap(5.0)])
def test_what_is_no_polynomial_is_refused(phi):
    with pytest.raises(UnsupportedError, match="no finite recurrence"):
        lift(dynamics(KINDS["identity"], phi))


def test_a_lifting_that_does_not_fit_is_refused_with_its_bytes(monkeypatch):
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "1000000")
    d = CoefficientDynamics(normal(1, 8, 1, 64), normal(1, 8, 1, 64), readout=readout.Polynomial((0.0, 0.0, 0.0, 1.0)))
    bytes_needed = 3 * 8 * 8 * math.comb(66, 3)
    with pytest.raises(MemoryBudgetError, match=f"{bytes_needed} bytes"):
        lift(d)
