"""Evolutions inside evolutions, parts of sequences, groups of heads, kernels, and what is refused."""

from __future__ import annotations

import pytest
import torch

from mixerlens import evolution, oracle
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.support import Support

from . import plain
from . import test_blocks as blocks
from . import test_kinds as kinds
from . import test_rank_one as rank_one
from .drawn import BATCH, HEADS, WIDTH, randn, uniform

INNER = {
    "identity": kinds.TestIdentity,
    "scalar": kinds.TestScalarDecay,
    "rotation": kinds.TestRotationLogDecay,
    "delta": kinds.TestDeltaGated,
    "rank one": rank_one.TestKimiDelta,
    "micro-steps": rank_one.TestMicroSteps,
    "dense": kinds.TestDense,
}


def block(case, p, time, kind):
    """The matrix of a pending-impulse kind around another case, with E_{-1} = I, written out."""
    n = case.dim
    E, one = case.matrices(p, BATCH, time, HEADS), torch.eye(n, dtype=torch.float64)
    A = torch.zeros(BATCH, time, HEADS, 2 * n, 2 * n, dtype=torch.float64)
    if kind == "trapezoid":
        A[..., :n, :n], A[..., :n, n:] = E, p["gain"][..., None, None] * E
        return A
    A[:, 0, :, :n, :n] = one
    A[:, 1:, :, :n, :n] = E[:, :-1]
    A[..., :n, n:] = one
    return A


@pytest.mark.parametrize("kind", ["read before write", "trapezoid"])
@pytest.mark.parametrize("inner", INNER)
def test_pending_impulses_around_any_kind(inner, kind):
    case, time = INNER[inner](), 71
    p = case.leaves(time) | {"gain": uniform(BATCH, time, HEADS)}
    E = case.evolution(p)
    kind_of = evolution.Trapezoid(E, p["gain"]) if kind == "trapezoid" else evolution.ReadBeforeWrite(E)
    q, k = randn(BATCH, time, HEADS, 2 * case.dim), randn(BATCH, time, HEADS, 2 * case.dim)
    for key in (k, torch.cat([0 * k[..., : case.dim], k[..., case.dim :]], -1)):
        d = CoefficientDynamics(q, key, kind_of)
        want = plain.scores(block(case, p, time, kind), q, key, torch.ones(BATCH, time, HEADS, dtype=torch.float64))
        op, v = d.operator(), randn(BATCH, time, HEADS, WIDTH)
        assert plain.error(op.to_dense(), want) <= 1e-12
        assert plain.error(op @ v, plain.mix(want, v)) <= 1e-12
        assert plain.error(op.T @ v, plain.mix(want.mT, v)) <= 1e-12
        one = d.select_heads([2]).to(torch.float64).detach()
        assert plain.error(one.operator().to_dense(), want[:, 2:]) <= 1e-12


def test_parameters_inside_are_found():
    g = -torch.rand(2, 5, 3, 4, requires_grad=True)
    kind = evolution.ReadBeforeWrite(evolution.Diagonal(log_decay=g))
    assert kind.sizes() == {"evolution inner log_decay": (2, 5, 3)}
    assert not kind.time_invariant
    assert kind.take_heads([1], 3).sizes() == {"evolution inner log_decay": (2, 5, 1)}
    inner = kind.detach().to(dtype=torch.float64).tensors()["inner log_decay"]
    assert inner.dtype == torch.float64
    assert not inner.requires_grad
    d = CoefficientDynamics(torch.randn(2, 5, 1, 8), torch.randn(2, 5, 1, 8), kind)
    assert (d.batch, d.time, d.heads) == (2, 5, 3)


@pytest.mark.parametrize("case", [blocks.TestReadBeforeWrite, blocks.TestFenwick], ids=lambda c: c.__name__)
def test_later_tokens_know_what_came_before(case):
    """Both depend on where a token stands: a part of the sequence goes on from the state as the whole does."""
    p = case().leaves(40)
    d, v = case().dynamics(p), p["v"]
    if case is blocks.TestFenwick:  # numbered by itself: 0, 1, 2, ...
        d = CoefficientDynamics(p["query"], p["key"], evolution.Fenwick(case.levels, log_decay=p["g"]), p["scaling"])
    whole = plain.mix(case().scores(p), v)
    first, state = d.select_tokens(0, 17).operator().apply(v[:, :17], return_state=True)
    middle, state = d.select_tokens(17, 18).operator().apply(v[:, 17:18], initial_state=state, return_state=True)
    last = d.select_tokens(18, 40).operator().apply(v[:, 18:], initial_state=state)
    assert plain.error(torch.cat([first, middle, last], 1), whole) <= 1e-12


def test_levels_of_packed_sequences():
    """Two sequences in one row, each numbered from 0, mix as they do alone."""
    q, k, v = randn(1, 50, 2, 7 * 3), randn(1, 50, 2, 7 * 3), randn(1, 50, 2, WIDTH)
    g = -uniform(1, 50, 2, high=0.2)
    places = torch.cat([torch.arange(19), torch.arange(31)])[None, :, None]
    segments = (torch.arange(50) >= 19).long()[None]
    packed = evolution.Fenwick(7, log_decay=g, position=places)
    y = CoefficientDynamics(q, k, packed, support=Support(segments=segments)).operator() @ v
    for part in (slice(0, 19), slice(19, 50)):
        alone = CoefficientDynamics(q[:, part], k[:, part], evolution.Fenwick(7, log_decay=g[:, part]))
        assert plain.error(y[:, part], oracle(alone, v[:, part])) <= 1e-12


@pytest.mark.parametrize("groups", [1, 2])
def test_directions_shared_by_groups_of_heads(groups):
    """Query, key and directions in groups; only the scaling says that there are four heads."""
    time, n = 70, 6
    q, k, w, b = randn(1, time, 2, n), randn(1, time, 2, n), randn(1, time, groups, n) / 3, uniform(1, time, 4)
    beta, rate = torch.tensor(0.7, dtype=torch.float64), torch.tensor([0.9], dtype=torch.float64)
    delta = torch.eye(n) - beta * w[..., :, None] * w[..., None, :]
    exchange = rate * torch.eye(n) + w.expand(-1, -1, 2, -1)[..., :, None] * k[..., None, :] / 3
    pending = torch.zeros(1, time, groups, 2 * n, 2 * n, dtype=torch.float64)
    pending[..., :n, n:] = torch.eye(n)
    pending[:, 1:, :, :n, :n] = delta[:, :-1]
    twice = torch.cat([q, k], -1)
    for kind, A, q_, k_ in [
        (evolution.Delta(w, beta), delta, q, k),
        (evolution.DiagonalPlusRankOne(w, k / 3, decay=rate), exchange, q, k),
        (evolution.ReadBeforeWrite(evolution.Delta(w, beta)), pending, twice, twice.flip(-1)),
    ]:
        v = randn(1, time, 4, WIDTH)
        spread = [x.repeat_interleave(4 // x.shape[2], 2) for x in (A, q_, k_)]
        want = plain.mix(plain.scores(*spread, b), v)
        d = CoefficientDynamics(q_, k_, kind, scaling=b)
        assert plain.error(d.operator() @ v, want) <= 1e-12
        assert plain.error(oracle(d, v), want) <= 1e-12
        assert plain.error(d.select_heads([3, 0]).operator() @ v[:, :, [3, 0]], want[:, :, [3, 0]]) <= 1e-12


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(
    ("cells", "size", "filled", "time"), [(5, 2, 5, 9), (80, 1, 1, 50), (80, 1, 80, 90), (70, 3, 70, 3)]
)
def test_the_kernel_of_a_shift(cells, size, filled, time, gradient, complex_):
    """A convolution: taps against the plain sum over lags, through the path for mixers that do not change."""
    q, k = (randn(1, 1, 2, cells * size, complex_=complex_) for _ in range(2))
    k = torch.nn.functional.pad(k[..., : filled * size], (0, (cells - filled) * size)).requires_grad_(gradient)
    d, v = CoefficientDynamics(q, k, evolution.Shift(size), length=time), randn(1, time, 2, WIDTH)
    assert d.time_invariant
    want = torch.zeros(1, 2, time, time, dtype=q.dtype)
    for i in range(time):
        for j in range(max(0, i - cells + 1), i + 1):
            lag = (i - j) * size
            want[:, :, i, j] = (q[:, 0, :, lag:] * k[:, 0, :, : cells * size - lag]).sum(-1)
    y = d.operator() @ v
    assert plain.error(y, plain.mix(want, v)) <= 1e-12
    assert plain.error(d.operator().T @ v, plain.mix(want.mT, v)) <= 1e-12
    if gradient:
        pull = torch.randn_like(y)
        got, wanted = (torch.autograd.grad((x * pull).abs().sum(), k)[0] for x in (y, plain.mix(want, v)))
        assert plain.error(got, wanted) <= 1e-12


REFUSED = {
    "twice a decay": lambda: evolution.DiagonalPlusRankOne(torch.ones(4), torch.ones(4), torch.ones(4), torch.ones(4)),
    "twice a log_decay": lambda: evolution.Delta(torch.ones(4), torch.ones(()), torch.zeros(()), torch.ones(())),
    "left has 4": lambda: evolution.DiagonalPlusRankOne(torch.ones(4), torch.ones(5)),
    "right holds NaN": lambda: evolution.DiagonalPlusRankOne(torch.ones(4), torch.full((4,), torch.nan)),
    "inner must be": lambda: evolution.ReadBeforeWrite(torch.ones(3)),
    "cell": lambda: evolution.Shift(0),
    "level": lambda: evolution.Fenwick(0),
    "integers": lambda: evolution.Fenwick(3, position=torch.zeros(1, 4, 1)),
    "position -1": lambda: evolution.Fenwick(3, position=torch.tensor([-1, 0])[None, :, None]),
    "steps": lambda: evolution.MicroSteps(torch.ones(2, 4), torch.ones(3)),
}
DIMENSIONS = {
    "left and right have 4": evolution.DiagonalPlusRankOne(torch.ones(4), torch.ones(4)),
    "state dimensions": evolution.DiagonalPlusRankOne(torch.ones(5), torch.ones(5), torch.ones(4)),
    "even": evolution.ReadBeforeWrite(evolution.Identity()),
    "cells of 2": evolution.Shift(2),
    "3 levels": evolution.Fenwick(3),
    "memory and momentum of 3": evolution.Momentum(torch.ones(3), torch.ones(()), torch.ones(())),
    "direction has 3": evolution.MicroSteps(torch.ones(2, 3), torch.ones(2)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused(why):
    with pytest.raises(InputError, match=why.removeprefix("twice a ")):
        REFUSED[why]()


@pytest.mark.parametrize("why", DIMENSIONS)
def test_dimensions_that_do_not_fit(why):
    with pytest.raises(InputError, match=why):
        CoefficientDynamics(torch.ones(1, 2, 1, 5), torch.ones(1, 2, 1, 5), DIMENSIONS[why])


def test_a_sequence_with_too_few_levels():
    q = torch.ones(1, 16, 1, 4)
    CoefficientDynamics(q[:, :8], q[:, :8], evolution.Fenwick(4))
    with pytest.raises(InputError, match="9 tokens need 5 levels, there are 4"):
        CoefficientDynamics(q[:, :9], q[:, :9], evolution.Fenwick(4))
