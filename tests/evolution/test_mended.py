"""Parts of sequences of nested kinds, one token at a time; slopes of eigenvalues at zeros; what is no parameter."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from mixerlens import evolution, families
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError

from . import plain
from .drawn import WIDTH, randn, uniform, unit

ONE = torch.ones((), dtype=torch.float64)


def pending(E, gain=None, before=None):
    """The matrices of ReadBeforeWrite, or of Trapezoid with a gain, around E (batch, time, heads, n, n)."""
    n = E.shape[-1]
    A, one = E.new_zeros(*E.shape[:3], 2 * n, 2 * n), torch.eye(n, dtype=E.dtype)
    if gain is not None:
        A[..., :n, :n], A[..., :n, n:] = E, gain[..., None, None] * E
        return A
    A[:, 0, :, :n, :n] = one if before is None else before
    A[:, 1:, :, :n, :n], A[..., :n, n:] = E[:, :-1], one
    return A


def fenwick(time, levels):
    """Levels below the one that is merged into at token t go there."""
    A = torch.zeros(1, time, 1, levels, levels, dtype=torch.float64)
    for t in range(time):
        into = levels - 1 if t == 0 else 1 + (t & -t).bit_length() - 1
        for level in range(levels):
            A[0, t, 0, max(level, into), level] = 1
    return A


def scalars(a, n):
    return a[..., None, None] * torch.eye(n, dtype=a.dtype)


def nested(name, time):
    """An evolution and its matrices."""
    a, gain = uniform(1, time, 1, low=0.2), uniform(1, time, 1)
    half = torch.full((1, time, 1), 0.5, dtype=torch.float64)
    rule = evolution.Scalar(decay=a)
    once = evolution.Scalar(decay=0.5 * ONE)
    return {
        "trapezoid, levels": lambda: (
            evolution.Trapezoid(evolution.Fenwick(4), 0.5 * ONE),
            pending(fenwick(time, 4), gain=half),
        ),
        "trapezoid, read": lambda: (
            evolution.Trapezoid(evolution.ReadBeforeWrite(rule), gain),
            pending(pending(scalars(a, 2)), gain=gain),
        ),
        "read, trapezoid, levels": lambda: (
            evolution.ReadBeforeWrite(evolution.Trapezoid(evolution.Fenwick(4), 0.5 * ONE)),
            pending(pending(fenwick(time, 4), gain=half)),
        ),
        "read, read": lambda: (
            evolution.ReadBeforeWrite(evolution.ReadBeforeWrite(rule)),
            pending(pending(scalars(a, 2))),
        ),
        "read, read constant": lambda: (
            evolution.ReadBeforeWrite(evolution.ReadBeforeWrite(once)),
            pending(pending(scalars(half, 2))),
        ),
        "trapezoid, read constant": lambda: (
            evolution.Trapezoid(evolution.ReadBeforeWrite(once), 0.5 * ONE),
            pending(pending(scalars(half, 2)), gain=half),
        ),
        "read constant": lambda: (evolution.ReadBeforeWrite(once), pending(scalars(half, 2))),
    }[name]()


NESTED = [
    "trapezoid, levels",
    "trapezoid, read",
    "read, trapezoid, levels",
    "read, read",
    "read, read constant",
    "trapezoid, read constant",
    "read constant",
]


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("constant", [False, True])
def test_nested_kinds_whole_in_parts_and_token_by_token(name, constant):
    """Constant: query and key do not change either, so that a time-invariant kind goes by FFT."""
    time = 8
    kind, A = nested(name, time)
    q, k, v = randn(1, time, 1, A.shape[-1]), randn(1, time, 1, A.shape[-1]), randn(1, time, 1, WIDTH)
    if constant:
        q, k = q[:, :1], k[:, :1]
    d = CoefficientDynamics(q, k, kind, length=time)
    wide_q, wide_k = (x.expand(1, time, 1, -1) for x in (q, k))
    want = plain.mix(plain.scores(A, wide_q, wide_k, torch.ones(1, time, 1, dtype=torch.float64)), v)
    assert plain.error(d.operator() @ v, want) <= 1e-12
    for cuts in [(0, 3, time), (0, 1, 6, time), tuple(range(time + 1))]:
        state, parts = None, []
        for lo, hi in pairwise(cuts):
            op = d.select_tokens(lo, hi).operator()
            y, state = op.apply(v[:, lo:hi], initial_state=state, return_state=True)
            parts.append(y)
        assert plain.error(torch.cat(parts, 1), want) <= 1e-12


@pytest.mark.parametrize("decay", ["a token", "constant"])
@pytest.mark.parametrize("time", [1, 2, 3])
def test_a_state_before_the_first_token_is_not_decayed(time, decay):
    """E_{-1} = I where it is left out, however many tokens there are and whatever the parameters' shape."""
    a = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)[None, :time, None]
    a = a if decay == "a token" else a[:, :1]
    q = torch.ones(1, time, 1, 2, dtype=torch.float64)
    d = CoefficientDynamics(q, 0 * q, evolution.ReadBeforeWrite(evolution.Scalar(decay=a)))
    v, state = torch.zeros(1, time, 1, 1, dtype=torch.float64), torch.ones(1, 1, 2, 1, dtype=torch.float64)
    want, kept = [], 2.0  # both halves have merged
    for t in range(time):
        want.append(kept)
        kept *= float(a[0, t if decay == "a token" else 0, 0])
    for op in (d.operator(), d.select_tokens(0, time).operator()):
        got = op.apply(v, initial_state=state, return_state=True)[0].flatten().tolist()
        assert got == pytest.approx(want, abs=1e-14)
    first, _ = d.select_tokens(0, 1).operator().apply(v[:, :1], initial_state=state, return_state=True)
    assert first.item() == pytest.approx(2.0, abs=1e-14)


@pytest.mark.parametrize("time", [1, 64, 65, 129])
def test_groups_of_queries_where_one_token_is_left(time):
    """Four heads of decays, two of queries and keys; the last chunk may hold one token."""
    q, k, g, u = randn(1, time, 2, 3), randn(1, time, 2, 3), -uniform(1, time, 4, 3), randn(2, 3)
    v = randn(1, time, 4, WIDTH)
    r, w, own = (x.repeat_interleave(2, -2) for x in (q, k, u))
    want, state = [], torch.zeros(1, 4, 3, WIDTH, dtype=torch.float64)
    for t in range(time):
        entering = w[:, t, :, :, None] * v[:, t, :, None, :]
        want.append((r[:, t, :, :, None] * (state + own[..., None] * entering)).sum(-2))
        state = g[:, t].exp()[..., None] * state + entering
    assert plain.error(families.rwkv6(q, k, g, u).operator() @ v, torch.stack(want, 1)) <= 1e-12


@pytest.mark.parametrize("time", [65, 66])
def test_nested_groups_where_one_token_is_left(time):
    q, k, a = randn(1, time, 2, 8), randn(1, time, 2, 8), uniform(1, time, 4)
    kind = evolution.ReadBeforeWrite(evolution.ReadBeforeWrite(evolution.Scalar(decay=a)))
    wide_q, wide_k = (x.repeat_interleave(2, 2) for x in (q, k))
    scores = plain.scores(pending(pending(scalars(a, 2))), wide_q, wide_k, torch.ones(1, time, 4, dtype=torch.float64))
    v = randn(1, time, 4, WIDTH)
    assert plain.error(CoefficientDynamics(q, k, kind).operator() @ v, plain.mix(scores, v)) <= 1e-12


def agree(found, A):
    wanted = torch.linalg.eigvals(A).to(torch.complex128)
    gaps = (found.expand(*A.shape[:3], -1)[..., :, None] - wanted[..., None, :]).abs()
    assert max(float(gaps.amin(-1).max()), float(gaps.amin(-2).max())) <= 1e-7  # double roots are found to 1e-8


def test_eigenvalues_where_only_the_decay_has_all_heads():
    w, beta, a = unit(randn(1, 5, 2, 4)), uniform(1, 5, 1, high=0.9), uniform(1, 5, 4, low=0.3)
    one, full = torch.eye(4, dtype=torch.float64), w.repeat_interleave(2, 2)
    outer = beta[..., None, None] * full[..., :, None] * full[..., None, :]
    gated = a[..., None, None]
    agree(evolution.Delta(w, beta, decay=a).eigenvalues(), gated * (one - outer))
    agree(evolution.MicroSteps(w[..., None, :], beta[..., None], decay=a).eigenvalues(), gated * (one - outer))
    moving = (0.7 * one).expand_as(outer)
    A = torch.cat([torch.cat([gated * one - outer, moving], -1), torch.cat([-outer, moving], -1)], -2)
    agree(evolution.Momentum(w, beta, 0.7 * ONE, decay=a).eigenvalues(), A)
    # the momentum alone may have them too
    kinds = evolution.Momentum(w, beta, 0.7 * torch.ones(1, 5, 4, dtype=torch.float64)), torch.ones_like(gated)
    A = torch.cat([torch.cat([kinds[1] * one - outer, moving], -1), torch.cat([-outer, moving], -1)], -2)
    agree(kinds[0].eigenvalues(), A)


def test_eigenvalues_before_the_first_token():
    a = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)[None, :, None]
    kind = evolution.ReadBeforeWrite(evolution.Scalar(decay=a))
    assert kind.eigenvalues()[0, :, 0].real.tolist() == [[1, 0], [0.9, 0], [0.5, 0]]
    assert kind.take_tokens(0, 1).eigenvalues(0, 1).flatten().real.tolist() == [1, 0]
    assert kind.take_tokens(2, 3).eigenvalues().flatten().real.tolist() == [0.5, 0]
    assert kind.take_tokens(1, 3).eigenvalues()[0, :, 0].real.tolist() == [[0.9, 0], [0.5, 0]]
    once = evolution.ReadBeforeWrite(evolution.Scalar(decay=0.5 * ONE))
    assert once.eigenvalues().flatten().real.tolist() == [0.5, 0]
    assert once.eigenvalues(0, 3)[0, :, 0].real.tolist() == [[1, 0], [0.5, 0], [0.5, 0]]
    assert once.take_tokens(1, 3).eigenvalues().flatten().real.tolist() == [0.5, 0]


@pytest.mark.parametrize("left", [[0.0, 0, 0, 0], [-0.3, 0, 0.0, -0.2], [0.3, 0.4, 0.0, 0.1]])
def test_slopes_of_eigenvalues_where_a_product_is_zero(left):
    """All of them (a gate beta = 0), some, and the other sign: y^T dA x of the dense matrix, y^T x = 1."""
    left, right = torch.tensor(left, dtype=torch.float64), torch.tensor([0.5, 0.8, 0.6, 0.9], dtype=torch.float64)
    a = torch.tensor([0.2, 0.9, 0.5, 0.7], dtype=torch.float64)
    values, modes = torch.linalg.eig(torch.diag(a) + left[:, None] * right[None, :])
    order = values.real.argsort()
    x, y = modes.real[:, order].mT, torch.linalg.inv(modes).real[order]
    want = {"left": y * (x @ right)[:, None], "right": x * (y @ left)[:, None], "decay": y * x}
    for name, slopes in want.items():
        leaves = {"left": left, "right": right, "decay": a}

        def found(p, leaves=leaves, name=name):
            return evolution.DiagonalPlusRankOne(**(leaves | {name: p})).eigenvalues()[0, 0, 0].real

        assert plain.error(torch.autograd.functional.jacobian(found, leaves[name]), slopes) <= 1e-12


def test_kimi_delta_with_a_closed_beta_has_slopes():
    """The sum of the eigenvalues is the trace, sum_n a_n (1 - beta k_n^2): its slopes are known."""
    k, g, beta = unit(randn(1, 5, 1, 3)), -uniform(1, 5, 1, 3), uniform(1, 5, 1)
    k[0, 3, 0], beta[0, 2] = torch.tensor([1.0, 0, 0]), 0
    beta.requires_grad_()
    found = families.kimi_delta_attention(k, k, g, beta).evolution.eigenvalues().real
    (slope,) = torch.autograd.grad(found.sum(), beta)
    assert plain.error(slope, -(g.exp() * k**2).sum(-1)) <= 1e-12


SIX = torch.full((1, 6, 1), 0.5, dtype=torch.float64)
INF = torch.tensor([0.5, math.inf], dtype=torch.float64)
NOT_PARAMETERS = {
    "previous is what acted before the first token: give one token": lambda: evolution.ReadBeforeWrite(
        evolution.Scalar(decay=SIX), previous=evolution.Scalar(decay=SIX)
    ),
    "previous must be an evolution": lambda: evolution.ReadBeforeWrite(evolution.Identity(), previous=ONE),
    "position 5 of token 1 follows 0": lambda: evolution.Fenwick(4, position=torch.tensor([[[0], [5], [6]]])),
    "position 3 of token 2 follows 3": lambda: evolution.Fenwick(4, position=torch.tensor([[[2], [3], [3]]])),
    "integers": lambda: evolution.Fenwick(4, position=torch.ones(1, 6, 1, dtype=torch.bool)),
    "levels must be a whole number, not 4.0": lambda: evolution.Fenwick(4.0),
    "must be a whole number, not 2.0": lambda: evolution.Shift(2.0),
    "gain must be a tensor, not 0.5": lambda: evolution.Trapezoid(evolution.Identity(), 0.5),
    "gain must be a tensor, not None": lambda: evolution.Trapezoid(evolution.Identity(), None),
    "rate must be a tensor": lambda: evolution.Momentum(torch.ones(2), 0.5, ONE),
    "left must be a tensor": lambda: evolution.DiagonalPlusRankOne([1.0, 2.0], torch.ones(2)),
    "decay must be a tensor": lambda: evolution.Scalar(decay=0.5),
    "offset must be a tensor": lambda: evolution.Unipotent(0.5),
    "matrix must be a tensor": lambda: evolution.Dense([[1.0]]),
    "angle must be a tensor": lambda: evolution.Rotation(0.5),
    "at least one entry": lambda: evolution.MicroSteps(torch.ones(1, 6, 1, 0, 4), torch.ones(1, 6, 1, 0)),
    "left has shape .* at least one entry": lambda: evolution.DiagonalPlusRankOne(torch.ones(0), torch.ones(0)),
    r"log_decay holds inf at \[1\]": lambda: evolution.Scalar(log_decay=INF),
    r"rate holds inf at \[1\]": lambda: evolution.Momentum(torch.ones(2), INF, ONE),
    r"gain holds inf at \[1\]": lambda: evolution.Trapezoid(evolution.Identity(), INF),
    r"left holds inf at \[1\]": lambda: evolution.DiagonalPlusRankOne(INF, torch.ones(2)),
    r"left holds -inf at \[1\]": lambda: evolution.DiagonalPlusRankOne(-INF, torch.ones(2)),
    r"rate holds inf at \[1\]: give numbers that are below": lambda: evolution.Diagonal(rate=INF, step_size=ONE),
}


@pytest.mark.parametrize("why", NOT_PARAMETERS)
def test_what_is_no_parameter_is_refused(why):
    with pytest.raises(InputError, match=why) as caught:
        NOT_PARAMETERS[why]()
    assert "\n" not in str(caught.value)


def test_closed_gates_are_no_infinities():
    closed = torch.tensor([-math.inf, 0.0], dtype=torch.float64)
    assert evolution.Scalar(log_decay=closed).eigenvalues().flatten().real.tolist() == [0, 1]
    assert evolution.Diagonal(rate=closed, step_size=ONE).eigenvalues().flatten().real.tolist() == [0, 1]
    with pytest.raises(InputError, match="log_decay holds"):
        evolution.Scalar(log_decay=torch.complex(closed, torch.tensor([0.0, math.inf], dtype=torch.float64)))


def test_one_position_for_many_tokens_and_a_previous_that_does_not_fit():
    q = torch.ones(1, 6, 1, 4, dtype=torch.float64)
    with pytest.raises(InputError, match="position numbers 1 tokens of 6"):
        CoefficientDynamics(q, q, evolution.Fenwick(4, position=torch.tensor(3)))
    wrong = evolution.ReadBeforeWrite(evolution.Diagonal(decay=ONE[None]), evolution.Diagonal(decay=torch.ones(4)))
    with pytest.raises(InputError, match="decay has 4 state dimensions"):
        CoefficientDynamics(q, q, wrong)
    other = evolution.ReadBeforeWrite(evolution.Scalar(decay=0.5 * ONE), evolution.Scalar(decay=0.2 * ONE))
    with pytest.raises(InputError, match="token by token"):
        CoefficientDynamics(q, q, other)
