"""S4 and DSS: against scipy's discretisation of the real system, HiPPO-LegS, and the kernels as published."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.signal import cont2discrete

from families.helpers import error, randn
from mixerlens import families
from mixerlens.errors import InputError
from mixerlens.families import legs_normal_plus_low_rank

FEATURES, MODES, TIME = 2, 3, 400
DT = torch.tensor([0.003, 0.2], dtype=torch.float64)


def crandn(*shape):
    return torch.complex(randn(*shape), randn(*shape))


def poles():
    return torch.complex(-torch.rand(FEATURES, MODES).double(), 5 * randn(FEATURES, MODES))


def bilinear(M, b, dt):
    """Both sampled matrices by scipy, and its real input column."""
    c = torch.zeros(1, M.shape[0], dtype=torch.float64)
    step = cont2discrete((M.numpy(), b[:, None].numpy(), c.numpy(), c[:, :1].numpy()), dt, method="bilinear")
    return torch.from_numpy(step[0]), torch.from_numpy(step[1])[:, 0]


def kernel(transition, column, row, time=TIME):
    """row . transition^l . column by repeated multiplication."""
    found = []
    for _ in range(time):
        found.append(row @ column)
        column = transition @ column
    return torch.stack(found)


def legs(state):
    """HiPPO-LegS by its entries: sqrt(2n + 1) sqrt(2k + 1) below the diagonal, n + 1 on it."""
    n = torch.arange(state, dtype=torch.float64)
    b = torch.sqrt(2 * n + 1)
    return torch.tril(b[:, None] * b, -1) + torch.diag(n + 1), b


@pytest.mark.parametrize("own", [True, False])
def test_s4_is_the_real_system_sampled_by_the_trapezoidal_rule(own):
    """z' = Lambda z - 2 P Re(Q^* z) + B u and y = 2 Re(C z) over the reals, on (Re z, Im z)."""
    A, P, B, C = poles(), *(crandn(FEATURES, MODES) for _ in range(3))
    Q = P if own else 0.3 * crandn(FEATURES, MODES)
    dynamics = families.s4(A=A, P=P, B=B, C=C, dt=DT, length=TIME, Q=None if own else Q)
    assert dynamics.time_invariant
    got = dynamics.operator().column(0)[0]
    for f in range(FEATURES):
        turn = torch.cat([torch.cat([torch.diag(A[f].real), -torch.diag(A[f].imag)], 1),
                          torch.cat([torch.diag(A[f].imag), torch.diag(A[f].real)], 1)])  # fmt: skip
        M = turn - 2 * torch.outer(torch.cat([P[f].real, P[f].imag]), torch.cat([Q[f].real, Q[f].imag]))
        transition, column = bilinear(M, torch.cat([B[f].real, B[f].imag]), float(DT[f]))
        want = kernel(transition, column, 2 * torch.cat([C[f].real, -C[f].imag]))
        assert error(got[f], want) <= 1e-12
        eigenvalues = torch.linalg.eigvals(transition)
        gap = (dynamics.evolution.eigenvalues()[0, 0, f, :, None] - eigenvalues).abs().min(0).values
        assert gap.max() <= 1e-12


@pytest.mark.parametrize("state", [4, 64])
def test_s4_from_legs(state):
    """The normal plus low-rank form has the kernel of HiPPO-LegS itself; B^* reads b^T x and P^* reads p^T x."""
    M, b = legs(state)
    A, P, B = legs_normal_plus_low_rank(state)
    assert (A.real == -0.5).all()
    assert (A.imag > 0).all()
    transition, column = bilinear(-M, b, 0.01)
    for C, row in ((B.conj(), b), (P.conj(), b / math.sqrt(2))):
        given = {"A": A[None], "P": P[None], "B": B[None], "C": C[None], "dt": 0.01 * torch.ones(1).double()}
        got = families.s4(**given, length=TIME).operator().column(0)[0, 0]
        assert error(got, kernel(transition, column, row)) <= 1e-12


def test_legs_is_never_diagonalised():
    """Its eigenvectors are ill-conditioned exponentially: 8e4, 8e10, 9e13, 1e19 at 8, 16, 20, 32 numbers.

    The kernel through them is off by 2e-12, 2e-6, 1e-3 and 1e6; the normal plus low-rank form keeps 1e-15.
    """
    conditions, errors = {}, {}
    for state in (8, 16, 20, 32):
        M, b = legs(state)
        values, V = torch.linalg.eig(-M)
        conditions[state] = float(torch.linalg.cond(V))
        transition, column = bilinear(-M, b, 0.01)
        want = kernel(transition, column, b)
        powers = ((1 + values / 200) / (1 - values / 200)) ** torch.arange(TIME)[:, None]
        through = (powers * (b.to(V.dtype) @ V) * torch.linalg.solve(V, column.to(V.dtype))).sum(-1).real
        errors[state] = error(through, want)
    assert 1e4 < conditions[8] < 1e6
    assert conditions[16] > 1e5 * conditions[8]
    assert conditions[32] > 1e16
    assert errors[8] < 1e-9
    assert errors[20] > 1e-5
    assert errors[32] > 1


@pytest.mark.parametrize("state", [0, 3])
def test_legs_needs_pairs(state):
    with pytest.raises(InputError, match=f"state is {state}"):
        legs_normal_plus_low_rank(state)


def softmax_kernel(A, weight, dt, lags, epsilon):
    """Closed form with the bounded reciprocal, at modes that decay."""
    d = A * (torch.exp(lags * dt * A) - 1)
    scale = weight * (torch.exp(dt * A) - 1) * d.conj() / (d.abs() ** 2 + epsilon)
    return (scale[:, None] * torch.exp(dt * A[:, None] * torch.arange(TIME))).sum(0).real


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_dss_is_its_published_kernel(epsilon):
    A, weight = poles(), crandn(FEATURES, MODES)
    given = {"A": A, "weight": weight, "dt": DT, "length": TIME}
    got = families.dss(**given, normalized=500, epsilon=epsilon).operator().column(0)[0]
    for f in range(FEATURES):
        assert error(got[f], softmax_kernel(A[f], weight[f], DT[f], 500, epsilon)) <= 1e-12
    if epsilon:
        assert error(families.dss(**given, normalized=500).operator().column(0)[0], got) > 1e-6


def test_dss_sums_to_its_weights_over_the_length_it_was_made_for():
    A, weight = poles(), crandn(FEATURES, MODES)
    A = torch.where(torch.arange(MODES) == 0, -0.02 * A, A)  # a growing mode a feature
    assert (A.real > 0).any()
    got = families.dss(A=A, weight=weight, dt=DT, length=TIME).operator().column(0)[0]
    assert error(got.sum(-1), (weight / A).sum(-1).real) <= 1e-12
    longer = families.dss(A=A, weight=weight, dt=DT, length=TIME, normalized=2 * TIME).operator().column(0)[0]
    assert error(longer, got) > 0.01  # the same parameters at another length are another mixer


def test_dss_is_s4d_with_the_sum_in_b():
    A, weight = poles(), crandn(FEATURES, MODES)
    B = 1 / (torch.exp(TIME * DT[:, None] * A) - 1)
    want = families.s4d(A=A, B=B, C=weight / 2, dt=DT, length=TIME).operator().column(0)
    assert error(families.dss(A=A, weight=weight, dt=DT, length=TIME).operator().column(0), want) <= 1e-12


ONE = torch.ones(FEATURES, MODES, dtype=torch.complex128)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: families.s4(A=-ONE, P=ONE, B=ONE, C=ONE[:1], dt=DT, length=3), r"C \(1, 3\)"),
        (lambda: families.s4(A=-ONE, P=ONE, B=ONE.real, C=ONE, dt=DT, length=3), "B is torch.float64"),
        (lambda: families.s4(A=-ONE, P=ONE, B=ONE, C=ONE, dt=-DT, length=3), "dt must be positive"),
        (lambda: families.dss(A=2j * math.pi / (DT[:, None] * 8) * ONE, weight=ONE, dt=DT, length=8), "sums to zero"),
        (lambda: families.dss(A=50 * ONE, weight=ONE, dt=DT, length=100), r"grows by exp\(1000\)"),
        (lambda: families.dss(A=-ONE, weight=ONE, dt=DT, length=100, normalized=50), "normalised over 50 lags"),
    ],
)
def test_a_likely_slip_is_refused_by_name(call, what):
    with pytest.raises(InputError, match=what):
        call()
