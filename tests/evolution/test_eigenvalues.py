"""Eigenvalues of every kind against those of its matrix written by hand."""

from __future__ import annotations

import pytest
import torch

from mixerlens import evolution

from . import test_blocks as blocks
from . import test_kinds as kinds
from . import test_rank_one as rank_one
from .drawn import BATCH, HEADS, randn, unit

TIME = 9
CASES = [
    kinds.TestIdentity,
    kinds.TestScalarLogDecay,
    kinds.TestDiagonalComplexRateAndStep,
    kinds.TestRotationDecay,
    kinds.TestDeltaGated,
    kinds.TestDense,
    rank_one.TestKimiDelta,
    rank_one.Rwkv7,
    rank_one.TestRankOneComplex,
    rank_one.RankOneReal,
    rank_one.TestMicroSteps,
    blocks.TestReadBeforeWrite,
    blocks.TestReadBeforeWriteConstant,
    blocks.TestTrapezoid,
    blocks.TestFenwick,
    blocks.TestMomentum,
]


def agree(found, A, bar):
    """Every value of the one is one of the other: multiplicities apart, the spectra are the same."""
    wanted = torch.linalg.eigvals(A).to(torch.complex128)
    batch, time, heads = A.shape[:3]
    gaps = (found.expand(batch, time, heads, -1)[..., :, None] - wanted[..., None, :]).abs()
    assert gaps.amin(-1).max() <= bar
    assert gaps.amin(-2).max() <= bar


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("part", [(0, None), (2, 7), (0, 1)], ids=str)
def test_spectra(case, part):
    p = case().leaves(TIME)
    A = case().matrices(p, BATCH, TIME, HEADS)
    lo, hi = part
    found = case().evolution(p).eigenvalues(lo, hi)
    assert found.dtype == torch.complex128
    assert found.shape[1] in (1, len(range(TIME)[lo:hi]))
    agree(found, A[:, lo:hi], 1e-10)


def test_a_shift_forgets_everything():
    """Its matrix to the power of its size is zero: no eigenvalue but 0. (A solver would find 1e-16^(1/17) here.)"""
    case = blocks.TestShiftOne()
    A = case.matrices({}, 1, 1, 1)[0, 0, 0]
    assert not torch.linalg.matrix_power(A, case.dim).any()
    assert evolution.Shift(1).eigenvalues().flatten().tolist() == [0]


@pytest.mark.parametrize("steps", [1, 3, 4, 6])
def test_micro_steps_of_any_number(steps):
    """Fewer steps than dimensions, as many, and more."""
    w, beta = unit(randn(1, 5, 2, steps, 4)), 2 * torch.rand(1, 5, 2, steps, dtype=torch.float64)
    A = torch.eye(4, dtype=torch.float64)
    for m in range(steps):
        A = (torch.eye(4) - beta[..., m, None, None] * w[..., m, :, None] * w[..., m, None, :]) @ A
    agree(evolution.MicroSteps(w, beta).eigenvalues(), A, 1e-10)


def test_momentum_in_one_dimension_and_without_rate():
    one = torch.ones(1, dtype=torch.float64)
    found = evolution.Momentum(one, rate=0.5 * one[0], momentum=0.8 * one[0]).eigenvalues()
    agree(found, torch.tensor([[0.5, 0.8], [-0.5, 0.8]], dtype=torch.float64).expand(1, 1, 1, 2, 2), 1e-12)
    found = evolution.Momentum(one, rate=0 * one[0], momentum=0.8 * one[0], decay=0 * one[0]).eigenvalues()
    agree(found, torch.tensor([[0.0, 0.8], [0.0, 0.8]], dtype=torch.float64).expand(1, 1, 1, 2, 2), 1e-12)


def test_delta_rules_have_real_eigenvalues():
    """Kimi Delta Attention and RWKV-7 are similar to symmetric matrices; any two vectors are not."""
    for case in (rank_one.TestKimiDelta(), rank_one.Rwkv7()):
        assert not case.evolution(case.leaves(TIME)).eigenvalues().imag.any()
    case = rank_one.RankOneReal()
    assert case.evolution(case.leaves(TIME)).eigenvalues().imag.abs().max() > 0.1


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_of_delta_rules(dim, dtype):
    """Against singular values of A_t: two groups of directions for four heads, |a| above and below 1, any beta."""
    w, beta, a = (randn(*shape).to(dtype) for shape in ((2, 5, 2, dim), (2, 5, 4), (1, 5, 1)))
    wide = w.double().repeat_interleave(2, 2)
    plain = torch.eye(dim) - beta.double()[..., None, None] * wide[..., :, None] * wide[..., None, :]
    for decay, A in ((None, plain), (a, a.double()[..., None, None] * plain)):
        found = evolution.Delta(w, beta, decay=decay).norms()
        bar = 1e-6 if dtype == torch.float32 else 2**-7  # beta's own dtype rounds the result
        torch.testing.assert_close(found.double(), torch.linalg.matrix_norm(A, 2), rtol=bar, atol=0)


def test_one_decay_for_all_dimensions():
    left, right, a = randn(2, 3), randn(2, 3), torch.tensor([[0.5], [-0.2]], dtype=torch.float64)
    for r in (right, -left):
        A = torch.diag_embed(a.expand(2, 3)) + left[:, :, None] * r[:, None, :]
        agree(evolution.DiagonalPlusRankOne(left, r, decay=a).eigenvalues(), A[None, None], 1e-12)


def test_many_tokens_of_rank_one_go_in_slabs(monkeypatch):
    from mixerlens.evolution import rank_one as module

    p = rank_one.TestKimiDelta().leaves(TIME)
    whole = rank_one.TestKimiDelta().evolution(p)
    want = whole.eigenvalues()
    monkeypatch.setattr(module, "SLAB", 4 * BATCH * HEADS * 16)
    assert torch.equal(whole.eigenvalues(), want)
    assert torch.equal(whole.eigenvalues(3, 8), want[:, 3:8])
