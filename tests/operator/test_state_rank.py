"""The rank criterion: how many numbers a causal recurrence must carry, on the facts the specification states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Delta, Identity
from mixerlens.normalizer import PerToken, RowSum
from mixerlens.readout import Exp, Polynomial, Readout, Relu
from mixerlens.readout import Identity as Linear
from mixerlens.support import Support

from ..evolution import test_kinds as kinds

TOLERANCES = (1e-3, 1e-6, 1e-10)


def dynamics(readout: Readout, time=256, dim=3, **options):
    torch.manual_seed(0)
    q, k = (torch.randn(1, time, 1, dim, dtype=torch.float64) for _ in range(2))
    return CoefficientDynamics(q, k, Identity(), readout=readout, **options)


def numpys(alpha, tol, cuts):
    """max over the cuts of the rank of alpha[t:, :t], by numpy."""
    alpha = alpha[0, 0].numpy()
    found = []
    for t in cuts:
        s = np.linalg.svd(alpha[t:, :t], compute_uv=False)
        found.append(int((s > tol * s[0]).sum()))
    return max(found)


@pytest.mark.parametrize(
    ("readout", "facts"),
    [
        (Linear(), (3, 3, 3)),
        (Polynomial((0.0, 0.0, 1.0)), (6, 6, 6)),
        (Polynomial((1.0, 1.0, 0.5)), (10, 10, 10)),
    ],
    ids=["identity", "square", "second order"],
)
def test_polynomials_have_the_rank_of_their_lifting(readout, facts):
    op = dynamics(readout).operator()
    assert tuple(int(op.state_rank(tol=tol)) for tol in TOLERANCES) == facts


@pytest.mark.parametrize(("readout", "facts"), [(Exp(), (29, 76, 122)), (Relu(), (78, 127, 128))], ids=["exp", "relu"])
def test_other_readouts_have_a_rank_that_follows_the_tolerance(readout, facts):
    """The facts are one draw of random queries and keys; another draw moves them by a fifth at most."""
    op = dynamics(readout).operator()
    alpha = op.to_dense()
    for tol, fact in zip(TOLERANCES, facts, strict=True):
        got = int(op.state_rank(tol=tol, cuts=[64, 128, 192]))
        assert got == numpys(alpha, tol, [64, 128, 192])
        assert abs(got - fact) <= 0.2 * fact
        assert got <= 128  # no more than half of the tokens can be measured


def test_rank_grows_with_time_for_exp_and_stops_for_polynomials():
    growing = [int(dynamics(Exp(), time).operator().state_rank(tol=1e-6)) for time in (32, 64, 128, 256)]
    assert growing == sorted(growing)
    assert growing[-1] > 2 * growing[0]
    taylor = Polynomial((1.0, 1.0, 0.5))
    assert [int(dynamics(taylor, time).operator().state_rank(tol=1e-6)) for time in (64, 256)] == [10, 10]


@pytest.mark.parametrize(
    ("kind", "readout", "rank"),
    [
        (kinds.TestScalarLogDecay, "identity", 4),
        (kinds.TestDeltaGated, "identity", 4),
        (kinds.TestDense, "identity", 4),
        (kinds.TestDiagonalComplex, "identity", 4),
        (kinds.TestDiagonalComplexRateAndStep, "real", 8),  # a complex number is two real ones
    ],
)
def test_a_linear_readout_carries_its_state_and_no_more(kind, readout, rank):
    """Without normaliser by the generators, with the same numbers through the dense matrix."""
    case = kind()
    p = case.leaves(40)
    d = case.dynamics(p, readout)
    got = d.operator().state_rank(tol=1e-12, cuts="all")
    alpha = case.alpha(case.scores(p), readout)
    for b in range(2):
        for h in range(3):
            one = alpha[b : b + 1, h : h + 1]
            # two ways to the same singular values: count what stands clear of the rounding of both
            assert numpys(one, 1e-9, range(1, 40)) <= int(got[b, h]) <= rank
            assert int(got[b, h]) == numpys(one, 1e-12, range(1, 40))
    assert int(got.max()) == rank


def test_dividing_rows_never_changes_the_rank():
    torch.manual_seed(1)
    eta = torch.rand(1, 128, 1, dtype=torch.float64) + 0.5
    for readout in (Linear(), Polynomial((1.0, 1.0, 0.5))):
        plain_rank = dynamics(readout, 128).operator().state_rank(tol=1e-10)
        divided = dynamics(readout, 128, normalizer=PerToken(eta)).operator().state_rank(tol=1e-10)
        assert torch.equal(plain_rank, divided)
    q, k = (torch.rand(1, 128, 1, 5, dtype=torch.float64) for _ in range(2))
    for normalizer in ({}, {"normalizer": RowSum()}):
        assert int(CoefficientDynamics(q, k, **normalizer).operator().state_rank(tol=1e-10)) == 5


def test_householders_of_order_two_lift_to_a_linear_state():
    """1 + z + z^2/2 on u is linear on (1, u, u (x) u): the lifted mixer gives the same coefficients."""
    from mixerlens.evolution import Dense

    torch.manual_seed(2)
    time, n = 60, 3
    q, k, w = (torch.randn(1, time, 1, n, dtype=torch.float64) for _ in range(3))
    w = w / w.norm(dim=-1, keepdim=True)
    two = torch.full((1, time, 1), 2.0, dtype=torch.float64)
    taylor = CoefficientDynamics(q, k, Delta(w, two), readout=Polynomial((1.0, 1.0, 0.5)))
    A = torch.eye(n, dtype=torch.float64) - 2 * w[..., :, None] * w[..., None, :]
    AA = torch.einsum("...ij,...kl->...ikjl", A, A).reshape(1, time, 1, n * n, n * n)
    lifted = torch.zeros(1, time, 1, 1 + n + n * n, 1 + n + n * n, dtype=torch.float64)
    lifted[..., 0, 0] = 1
    lifted[..., 1 : 1 + n, 1 : 1 + n] = A
    lifted[..., 1 + n :, 1 + n :] = AA
    one = torch.ones(1, time, 1, 1, dtype=torch.float64)
    square = lambda x: (x[..., :, None] * x[..., None, :]).flatten(-2)
    linear = CoefficientDynamics(
        torch.cat([one, q, square(q) / 2], -1), torch.cat([one, k, square(k)], -1), Dense(lifted)
    )
    got, want = linear.operator().to_dense(), taylor.operator().to_dense()
    assert (got - want).abs().max() <= 1e-14 * want.abs().max()
    assert int(linear.operator().state_rank(tol=1e-10)) == int(taylor.operator().state_rank(tol=1e-10)) == 10


def test_what_has_no_state_rank_is_refused():
    with pytest.raises(UnsupportedError, match="causal"):
        dynamics(Exp(), 8, support=Support(causal=False)).operator().state_rank()
    op = dynamics(Exp(), 8).operator()
    for bad in ({"tol": 2.0}, {"tol": -1.0}, {"cuts": "some"}, {"cuts": 0}, {"cuts": [8]}):
        with pytest.raises(InputError):
            op.state_rank(**bad)
