"""HiPPO-LegS: its state is the signal's exact projection on Legendre polynomials, whatever came before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre
from scipy.linalg import expm

from families.helpers import error, randn
from mixerlens import families
from mixerlens.errors import InputError, MemoryBudgetError, UnsupportedError
from mixerlens.families.hippo import legs_power

TIME = 60


def legs(state):
    n = np.arange(state)
    b = np.sqrt(2 * n + 1.0)
    return np.tril(np.outer(b, b), -1) + np.diag(n + 1.0), b


def projection(state, tokens):
    """Integrals of the normalised Legendre polynomials of [0, tokens] over each token, by their antiderivatives."""
    edges = 2 * np.arange(tokens + 1) / tokens - 1
    rows = []
    for n in range(state):
        antiderivative = legendre.legint(np.eye(state)[n])
        rows.append(np.sqrt(2 * n + 1) * np.diff(legendre.legval(edges, antiderivative)) / 2)
    return torch.from_numpy(np.array(rows))


@pytest.mark.parametrize("state", [1, 6, 32])
def test_the_state_is_the_projection_of_the_signal(state):
    f = randn(1, TIME, 1, 2)
    operator = families.hippo_legs(query=torch.ones(1, 1, 1, state).double(), length=TIME).operator()
    for t in (0, 1, 17, TIME - 1):
        want = projection(state, t + 1) @ f[0, : t + 1, 0]
        assert error(operator.state_at(t, f)[0, 0], want) <= 1e-12
    dense = families.hippo_legs(query=torch.eye(state).double()[None, None, :1], length=TIME).operator().to_dense()
    mean = torch.ones(TIME, TIME).double().tril() / torch.arange(1, TIME + 1)[:, None]
    assert error(dense[0, 0], mean) <= 1e-12  # the first coefficient is the mean of all tokens so far


@pytest.mark.parametrize("state", [4, 16, 32])
@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.999])
def test_the_power_is_the_matrix_exponential(state, ratio):
    want = torch.from_numpy(expm(legs(state)[0] * np.log(ratio)))
    assert error(legs_power(torch.tensor([ratio], dtype=torch.float64), state)[0], want) <= 1e-12


def test_the_power_at_the_ends():
    ends = legs_power(torch.tensor([0.0, 1.0], dtype=torch.float64), 8)
    assert ends[0].abs().max() == 0
    assert (ends[1] - torch.eye(8).double()).abs().max() <= 1e-13


def test_eigenvalues_are_the_powers_of_the_ratio():
    d = families.hippo_legs(query=torch.ones(1, 1, 1, 5).double(), length=9)
    found = d.evolution.eigenvalues()[0, 4, 0].real.sort(descending=True).values
    assert (found - 0.8 ** torch.arange(1, 6).double()).abs().max() <= 1e-13


def test_the_clock_restarts_with_each_segment():
    q, f = randn(1, TIME, 2, 4), randn(1, TIME, 2, 3)
    segments = torch.tensor([[5] * 20 + [-1] * 4 + [7] * 36])
    got = families.hippo_legs(query=q, segments=segments).operator() @ f
    for lo, hi in ((0, 20), (24, TIME)):
        want = families.hippo_legs(query=q[:, lo:hi]).operator() @ f[:, lo:hi]
        assert error(got[:, lo:hi], want) <= 1e-12
    assert (got[:, 20:24] == 0).all()


def test_refusals(monkeypatch):
    q = randn(1, 5, 1, 4)
    with pytest.raises(InputError, match="query must be"):
        families.hippo_legs(query=q[0])
    with pytest.raises(UnsupportedError, match="one run of tokens"):
        families.hippo_legs(query=q, segments=torch.tensor([[0, 1, 0, 1, 1]]))
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "100")
    with pytest.raises(MemoryBudgetError, match="HiPPO-LegS's matrices needs 640 bytes"):
        families.hippo_legs(query=q)


def test_lag_operators_of_legendre_polynomials_are_hippo():
    """The matrices of [0, t], by a matrix exponential of the LegS matrix, in the general lag-operator form."""
    state, time = 6, 50
    n = torch.arange(state, dtype=torch.float64)
    A = torch.tril(torch.sqrt((2 * n[:, None] + 1) * (2 * n + 1)), -1) + torch.diag(n + 1)
    powers = [torch.from_numpy(expm(A.numpy() * np.log(t / (t + 1)))) for t in range(1, time)]
    lag = torch.stack([torch.zeros(state, state).double(), *powers])
    q, v = torch.randn(2, time, 3, state).double(), torch.randn(2, time, 3, 2).double()
    first = torch.eye(state).double()[0]
    op = families.lag_operator_ssm(lag=lag[None], projection=(first - lag[..., 0])[None], query=q).operator()
    want = families.hippo_legs(query=q).operator() @ v
    assert (op @ v - want).abs().max() <= 1e-12 * want.abs().max()
    with pytest.raises(InputError, match="lag must be"):
        families.lag_operator_ssm(lag=lag, projection=lag[..., 0], query=q)
