"""Sums of mixers of different kinds, against a plain float64 sum of the equation itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from evolution.plain import error, mix, normalized, pairs, scores
from mixerlens import families, oracle, oracle_coefficients
from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, MemoryBudgetError, UnsupportedError
from mixerlens.evolution import Delta, Diagonal, Scalar
from mixerlens.normalizer import PerToken, RowSum
from mixerlens.operator import SumOperator, reductions, tiles
from mixerlens.support import Support

BATCH, TIME, HEADS, WIDTH = 2, 150, 4, 3
CUTS = (0, 37, 100, TIME)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def qk(dim, groups=HEADS):
    return randn(BATCH, TIME, HEADS, dim), randn(BATCH, TIME, groups, dim)


def spread(x):
    return x.repeat_interleave(HEADS // x.shape[2], dim=2)


def mixed():
    """Softmax in a window, a delta rule, gates with eta given: three kinds, chunks, supports; and the plain sum."""
    one = torch.ones(BATCH, TIME, HEADS, dtype=torch.float64)
    q1, k1 = qk(4, groups=2)
    q2, k2 = qk(5)
    k2 = k2 / k2.norm(dim=-1, keepdim=True)
    q3, k3 = qk(3)
    beta, eta = 1.9 * torch.rand(BATCH, TIME, HEADS).double(), 1 + torch.rand(BATCH, TIME, HEADS).double()
    gate = torch.rand(BATCH, TIME, HEADS, 3).double()
    segments = torch.tensor([[0] * 60 + [1] * 90, [2] * 140 + [-1] * 10])
    weights = (1.0, randn(HEADS), randn(BATCH, TIME, 1))
    parts = (
        families.softmax_attention(query=q1, key=k1, window=20),
        CoefficientDynamics(q2, k2, Delta(k2, beta), scaling=beta, support=Support(segments=segments)),
        CoefficientDynamics(q3, k3, Diagonal(decay=gate), normalizer=PerToken(eta)),
    )
    erase = torch.eye(5, dtype=torch.float64) - beta[..., None, None] * k2[..., :, None] * k2[..., None, :]
    alphas = (
        normalized(scores(None, q1, spread(k1) / 2, one).exp(), pairs(TIME, True, 20, None), row_sum=True),
        normalized(scores(erase, q2, k2, beta), pairs(TIME, True, None, segments)),
        normalized(scores(torch.diag_embed(gate), q3, k3, one), pairs(TIME, True, None, None), eta=eta),
    )
    want = alphas[0] + weights[1][:, None, None] * alphas[1] + weights[2].transpose(1, 2)[..., None] * alphas[2]
    return CoefficientSum(parts, weights), want


@pytest.fixture
def summed():
    return mixed()


def test_linear_algebra(summed):
    dynamics, want = summed
    op = dynamics.operator()
    v = randn(BATCH, TIME, 2, WIDTH)
    assert isinstance(op, SumOperator)
    assert op.shape == (BATCH, HEADS, TIME, TIME)
    assert error(op @ v, mix(want, spread(v))) <= 1e-12
    assert error(op.T @ spread(v), mix(want.mT, spread(v))) <= 1e-12
    assert error(op.to_dense(), want) <= 1e-12
    assert error(op.T.to_dense(), want.mT) <= 1e-12
    assert error(oracle_coefficients(dynamics), want) <= 1e-12
    assert error(oracle(dynamics, v), mix(want, spread(v))) <= 1e-12


def test_parts_of_alpha(summed):
    dynamics, want = summed
    op = dynamics.operator()
    rows, columns = [149, 3, 64, 63], [5, 140, 60]
    assert error(op.row(77), want[:, :, 77]) <= 1e-12
    assert error(op.column(61), want[..., 61]) <= 1e-12
    assert error(op.block(rows, columns), want[:, :, rows][..., columns]) <= 1e-12
    assert error(op.T.block(columns, rows), want[:, :, rows][..., columns].mT) <= 1e-12
    assert error(op.diagonal(), want.diagonal(dim1=-2, dim2=-1)) <= 1e-12
    assert error(dynamics.operator(head=-2).to_dense(), want[:, 2:3]) <= 1e-12


@pytest.mark.parametrize("few_heads_at_once", [False, True])
def test_reductions_are_those_of_the_sum(summed, few_heads_at_once, monkeypatch):
    """|sum of alphas|, not the sum of their absolute values; also where heads go by groups."""
    dynamics, want = summed
    if few_heads_at_once:
        monkeypatch.setattr(tiles, "TEMPORARY", 2 * BATCH * 8 * 3 * TIME * dynamics.dim)
        assert len(list(tiles.head_groups(dynamics, tiles.RowTiles(dynamics).rows))) == 2
    op, size = dynamics.operator(), want.abs()
    lag = torch.arange(TIME, dtype=torch.float64)[:, None] - torch.arange(TIME, dtype=torch.float64)
    assert error(op.row_mass(), size.sum(-1).transpose(1, 2)) <= 1e-12
    assert error(op.column_mass(), size.sum(-2).transpose(1, 2)) <= 1e-12
    assert error(op.mean_distance(), ((size * lag).sum(-1) / size.sum(-1)).transpose(1, 2)) <= 1e-12
    by_lag = torch.stack([size.diagonal(offset=-int(l), dim1=-2, dim2=-1).sum(-1) for l in range(TIME)], -1)
    assert error(op.mass_by_lag(), by_lag) <= 1e-12
    cells = want.unflatten(-1, (10, 15)).mean(-1).unflatten(-2, (10, 15)).mean(-2)
    assert error(op.heatmap(10, signed=True), cells) <= 1e-12
    assert not torch.allclose(op.heatmap(10), cells.abs())
    values, index = op.top_k(4)
    assert error(values[:, 10:], want.gather(-1, size.topk(4).indices)[:, :, 10:].transpose(1, 2)) <= 1e-12
    assert (index[:, 0, :, 1:] == -1).all()
    mass, heat = op.reduce(reductions.RowMass(), reductions.Heatmap(10, signed=True))
    assert torch.equal(mass, op.row_mass())
    assert torch.equal(heat, op.heatmap(10, signed=True))


def test_nothing_is_dense_unless_asked(summed, monkeypatch):
    dynamics, want = summed
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", str(8 * TIME * TIME))
    with pytest.raises(MemoryBudgetError, match="to_dense"):
        dynamics.operator().to_dense()
    assert error(dynamics.operator().row_mass(), want.abs().sum(-1).transpose(1, 2)) <= 1e-12


def test_state_rank_is_that_of_the_sum(summed):
    dynamics, want = summed
    cuts = [20, 75, 120]
    found = dynamics.operator().state_rank(tol=1e-8, cuts=cuts)
    blocks = [torch.linalg.svdvals(want[..., t:, :t]) for t in cuts]
    expected = torch.stack([(s > 1e-8 * s[..., :1]).sum(-1) for s in blocks]).amax(0)
    assert torch.equal(found, expected)


def recurrent():
    """Two linear systems, one with the row sum, one complex: a state each."""
    q1, k1 = torch.rand(BATCH, TIME, HEADS, 3).double(), torch.rand(BATCH, TIME, HEADS, 3).double()
    q2, k2 = qk(2)
    decay = torch.polar(torch.tensor(0.95).double(), torch.tensor(0.3).double()).reshape(1, 1, 1)
    parts = (
        CoefficientDynamics(q1, k1, Scalar(decay=torch.full((HEADS,), 0.9).double()), normalizer=RowSum()),
        CoefficientDynamics(q2, k2, Scalar(decay=decay)),
    )
    return CoefficientSum(parts, (0.5, randn(1, TIME, HEADS)))


def test_a_sequence_in_parts_carries_one_state_a_part():
    dynamics, v = recurrent(), randn(BATCH, TIME, HEADS, WIDTH)
    whole, last = dynamics.operator().apply(v, return_state=True)
    assert error(whole, oracle(dynamics, v)) <= 1e-12
    rows, states = [], None
    for a, b in pairwise(CUTS):
        part = dynamics.select_tokens(a, b).operator()
        y, states = part.apply(v[:, a:b], initial_state=states, return_state=True)
        rows.append(y)
        if b < TIME:
            for state, there in zip(states, dynamics.operator().state_at(b - 1, v), strict=True):
                assert error(state[..., :WIDTH], there) <= 1e-12
    assert error(torch.cat(rows, 1), whole) <= 1e-12
    assert [tuple(s.shape[2:]) for s in last] == [(3, WIDTH + 1), (2, WIDTH)]
    for state, end in zip(states, last, strict=True):
        assert error(state, end) <= 1e-12


def test_the_states_of_the_parts_add_up():
    dynamics = recurrent()
    assert dynamics.recurrent
    assert dynamics.dim == 5
    assert (dynamics.operator().state_rank(tol=1e-9, cuts=[75]) == 5).all()
    dense = torch.linalg.svdvals(dynamics.operator().to_dense()[..., 75:, :75])
    assert ((dense > 1e-9 * dense[..., :1]).sum(-1) == 5).all()


def test_what_has_no_state_says_so(summed):
    dynamics, _ = summed
    v = randn(BATCH, TIME, HEADS, WIDTH)
    with pytest.raises(UnsupportedError, match="no finite state"):
        dynamics.operator().apply(v, return_state=True)
    with pytest.raises(UnsupportedError, match="transpose"):
        dynamics.operator().T.state_at(3, v)
    with pytest.raises(InputError, match="1 states, this sum has 2 parts"):
        recurrent().operator().apply(v, initial_state=[randn(BATCH, HEADS, 3, WIDTH + 1)])


def test_weights_carry_gradients(summed):
    dynamics, _ = summed
    v, w = randn(BATCH, TIME, HEADS, WIDTH), randn(BATCH, TIME, HEADS, WIDTH)
    parts = [d.operator().to_dense() for d in dynamics.parts]
    per_head = dynamics.weights[1].detach().requires_grad_()
    per_row = dynamics.weights[2].detach().requires_grad_()
    y = CoefficientSum(dynamics.parts, (1.0, per_head, per_row)).operator() @ v
    found = torch.autograd.grad((y * w).sum(), (per_head, per_row))
    by_row = [(mix(a, v) * w).sum(-1) for a in parts]  # (batch, time, heads)
    assert error(found[0].flatten(), by_row[1].sum((0, 1))) <= 1e-12
    assert error(found[1], by_row[2].sum(-1, keepdim=True)) <= 1e-12
    assert not dynamics.detach().operator().to_dense().requires_grad


def test_float32(summed):
    dynamics, want = summed
    narrow = dynamics.to(torch.float32)
    v = randn(BATCH, TIME, HEADS, WIDTH).float()
    got = narrow.operator() @ v
    assert got.dtype == torch.float32
    assert error(got, mix(want, v)) <= 1e-6
    assert narrow.operator().row_mass().dtype == torch.float32


def test_bidirectional_parts():
    q, k = qk(4)
    both = families.softmax_attention(query=q, key=k, causal=False)
    left = families.softmax_attention(query=q, key=k)
    dynamics = CoefficientSum((both, left), (1.0, -1.0))
    assert not dynamics.causal
    z = torch.einsum("bihn,bjhn->bhij", q, k) / 2
    want = z.softmax(-1) - z.masked_fill(~torch.ones(TIME, TIME, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    assert error(dynamics.operator().to_dense(), want) <= 1e-12
    assert error(dynamics.operator().row_mass(), want.abs().sum(-1).transpose(1, 2)) <= 1e-12
    with pytest.raises(UnsupportedError, match="causal"):
        dynamics.operator().state_rank()


def test_what_does_not_fit_is_refused_in_one_line():
    q, k = qk(4)
    d = families.linear_attention(query=q, key=k)
    for bad in (
        lambda: CoefficientSum((), ()),
        lambda: CoefficientSum((d, d), (1.0,)),
        lambda: CoefficientSum((d, d.operator()), (1.0, 1.0)),
        lambda: CoefficientSum((d, d.select_heads([0])), (1.0, 1.0)),
        lambda: CoefficientSum((d, d.select_tokens(0, 9)), (1.0, 1.0)),
        lambda: CoefficientSum((d,), (randn(3),)),
        lambda: CoefficientSum((d,), (randn(TIME, HEADS, 1, 1),)),
        lambda: CoefficientSum((d,), (randn(HEADS).to(torch.complex128),)),
        lambda: CoefficientSum((d,), (torch.full((HEADS,), torch.inf),)),
        lambda: CoefficientSum((d,), (1.0,)).operator(head=HEADS),
        lambda: CoefficientSum((d,), (1.0,)).operator() @ randn(BATCH, TIME, 3, 1),
    ):
        with pytest.raises(InputError) as refused:
            bad()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1j, "a", None])
def test_a_weight_that_is_no_number_is_refused(weight):
    x = torch.ones(1, 3, 1, 2)
    d = CoefficientDynamics(x, x)
    with pytest.raises(InputError, match="give a finite number or a tensor"):
        CoefficientSum((d, d), (1.0, weight))
