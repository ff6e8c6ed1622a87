"""float32 at 4096 tokens against float64: 1e-6, times the largest score where that enters exp."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import (
    Delta,
    Diagonal,
    DiagonalPlusRankOne,
    Identity,
    Momentum,
    ReadBeforeWrite,
    Rotation,
    Scalar,
    Trapezoid,
    Unipotent,
)
from mixerlens.normalizer import RowSum
from mixerlens.readout import Exp, RealPart

from . import plain
from .case import READOUTS

TIME, DIM, HEADS, WIDTH = 4096, 6, 2, 2
GRID = (1, TIME, HEADS)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def vectors():
    return torch.randn(*GRID, DIM), unit(torch.randn(*GRID, DIM))


def states(step, q, k, v):
    """y_t = S_t^T q_t with S_t = step(S, t) + k_t v_t^T, one token at a time in double precision."""
    S, rows = torch.zeros(1, HEADS, q.shape[-1], WIDTH, dtype=q.dtype), []
    for t in range(TIME):
        S = step(S, t) + k[:, t, :, :, None] * v[:, t, :, None, :]
        rows.append((q[:, t, :, :, None] * S).sum(-2))
    return torch.stack(rows, dim=1)


def check(evolution, step, b=None, readout=None, q=None, k=None):
    """The library in float32 against the state recurrence on the same numbers in float64; both directions."""
    if q is None or k is None:
        q, k = vectors()
    v = torch.randn(*GRID, WIDTH)
    options = {} if readout is None else {"readout": readout}
    dynamics = CoefficientDynamics(q, k, evolution, scaling=b, length=TIME, **options)
    wide = torch.complex128 if q.is_complex() or evolution.is_complex else torch.float64
    key = k.to(wide) if b is None else b.double()[..., None] * k.to(wide)
    expand = [x.expand(*GRID, -1) for x in (q.to(wide), key)]
    want = states(step, *expand, v.to(wide))
    want = want if readout is None else readout.scale * want.real
    got = dynamics.operator() @ v
    assert got.dtype == torch.float32
    for h in range(HEADS):
        assert plain.error(got[:, :, h], want[:, :, h]) <= 1e-6
    w = torch.randn(*GRID, WIDTH)
    # <w, alpha v> = <alpha^T w, v> ties the transpose to the forward that was just checked
    left, right = (w.double() * want).sum(), ((dynamics.operator().T @ w).double() * v.double()).sum()
    assert abs(left - right) <= 1e-6 * float(w.double().norm() * want.norm())


@pytest.mark.parametrize("g", [-1e-4, -1e-2, -3.0])
def test_a_constant_log_decay(g):
    """exp(g) rounded to float32 before it is multiplied up would be off by 4.5e-5 at -1e-4."""
    g = torch.full(GRID, g)
    check(Scalar(log_decay=g), lambda S, t: g.double()[:, t, :, None, None].exp() * S)


def test_random_log_decays():
    g = -torch.rand(*GRID, DIM) * torch.logspace(-5, 0, DIM)
    check(Diagonal(log_decay=g), lambda S, t: g.double()[:, t, :, :, None].exp() * S)


def test_mambas_factored_decays():
    A, dt = -torch.arange(1.0, DIM + 1).expand(HEADS, -1), 10 ** (-3 + 2 * torch.rand(GRID))
    q, k = vectors()
    decay = lambda t: (dt.double()[:, t, :, None] * A.double()).exp()[..., None]
    check(Diagonal(rate=A, step_size=dt), lambda S, t: decay(t) * S, b=dt, q=q[:, :, :1], k=k[:, :, :1])


@pytest.mark.parametrize("dt", [1e-3, 1e-1])
@pytest.mark.parametrize("path", ["fft", "chunks"])
def test_s4ds_phases(dt, path):
    A = torch.complex(-0.5 * torch.ones(HEADS, DIM), math.pi * torch.arange(DIM).expand(HEADS, -1))
    steps = torch.full((HEADS,), dt)
    q, k = (torch.randn(1, 1, HEADS, DIM, dtype=torch.complex64) for _ in range(2))
    if path == "chunks":
        q = q.expand(1, TIME, -1, -1)
    decay = (steps.double()[:, None] * A.to(torch.complex128)).exp()[..., None]
    check(Diagonal(rate=A, step_size=steps), lambda S, t: decay * S, readout=RealPart(2.0), q=q, k=k)


@pytest.mark.parametrize("signs", [False, True])
def test_decays_given_as_numbers(signs):
    a = 1 - 10 ** (-4 * torch.rand(*GRID, DIM))
    a = a * (2 * torch.randint(0, 2, a.shape) - 1) if signs else a
    check(Diagonal(decay=a), lambda S, t: a.double()[:, t, :, :, None] * S)


def test_a_decaying_rotation():
    angle, g = torch.randn(3), torch.full(GRID, -1e-3)
    turn = torch.diag_embed(angle.double().cos()), torch.diag_embed(angle.double().sin())
    R = torch.cat([torch.cat([turn[0], -turn[1]], -1), torch.cat([turn[1], turn[0]], -1)], -2)
    check(Rotation(angle, log_decay=g), lambda S, t: g.double()[:, t, :, None, None].exp() * (R @ S))


@pytest.mark.parametrize("keys", ["random", "correlated"])
@pytest.mark.parametrize("gate", [0.0, -0.01])
@pytest.mark.parametrize("top", [1.0, 1.99])
def test_delta_rules(keys, gate, top):
    q, k = vectors()
    k = unit(0.2 * k + torch.randn(1, 1, HEADS, DIM)) if keys == "correlated" else k
    beta, g = top * torch.rand(GRID), torch.full(GRID, gate)

    def step(S, t):
        w, decayed = k.double()[:, t, :, :, None], g.double()[:, t, :, None, None].exp() * S
        return decayed - beta.double()[:, t, :, None, None] * w * (w * decayed).sum(-2, keepdim=True)

    check(Delta(k, beta, log_decay=g if gate else None), step, b=beta, q=q, k=k)


@pytest.mark.parametrize("keys", ["random", "correlated"])
@pytest.mark.parametrize("gate", [-1e-3, -0.6])
@pytest.mark.parametrize("form", ["kimi delta", "rwkv-7"])
def test_a_diagonal_plus_rank_one(form, gate, keys):
    """Unit keys and a gate a dimension, from one that hardly forgets to the fastest that RWKV-7 has."""
    q, k = vectors()
    k = unit(0.2 * k + torch.randn(1, 1, HEADS, DIM)) if keys == "correlated" else k
    g, rate, wide = gate * torch.rand(*GRID, DIM), torch.rand(*GRID, DIM), k.double()
    if form == "kimi delta":
        beta = rate[..., :1].double()
        left, right = -beta * wide, g.double().exp() * wide
    else:
        beta, left, right = None, -wide, rate.double() * wide

    def step(S, t):
        decayed, w = g.double()[:, t, :, :, None].exp() * S, wide[:, t, :, :, None]
        if form == "kimi delta":
            return decayed - beta[:, t, :, :, None] * w * (w * decayed).sum(-2, keepdim=True)
        return decayed - w * (rate.double()[:, t, :, :, None] * w * S).sum(-2, keepdim=True)

    b = None if beta is None else beta[..., 0].float()
    check(DiagonalPlusRankOne(left, right, log_decay=g), step, b=b, q=q, k=k)


def test_momentum():
    """Two states that feed each other, with a weight decay and a momentum near one."""
    half = DIM // 2
    w, rate = unit(torch.randn(*GRID, half)), 0.3 * torch.rand(GRID)
    momentum, g = 0.95 - 0.3 * torch.rand(GRID), -1e-3 * torch.rand(GRID)
    key = rate[..., None] * torch.cat([w, w], -1)

    def step(S, t):
        (memory, moving), along = S.chunk(2, -2), w.double()[:, t, :, :, None]
        back = rate.double()[:, t, :, None, None] * along * (along * memory).sum(-2, keepdim=True)
        moving = momentum.double()[:, t, :, None, None] * moving - back
        return torch.cat([g.double()[:, t, :, None, None].exp() * memory + moving, moving], -2)

    q = torch.cat([torch.randn(*GRID, half), torch.zeros(*GRID, half)], -1)
    check(Momentum(w, rate, momentum, log_decay=g), step, q=q, k=key)


@pytest.mark.parametrize("kind", ["read before write", "trapezoid"])
def test_pending_impulses(kind):
    """RWKV's and Mamba-3's blocks around decays and rotations that hardly forget."""
    half, g, gain = DIM // 2 + 1, -1e-3 * torch.rand(GRID), torch.rand(GRID)
    q, k = torch.randn(*GRID, 2 * half), unit(torch.randn(*GRID, 2 * half))
    angle = torch.randn(half // 2)
    cos, sin = (torch.diag_embed(x) for x in (angle.double().cos(), angle.double().sin()))
    R = torch.cat([torch.cat([cos, -sin], -1), torch.cat([sin, cos], -1)], -2)
    inner = Rotation(angle, log_decay=g)
    E = lambda S, t: g.double()[:, t, :, None, None].exp() * (R @ S) if t >= 0 else S

    def step(S, t):
        s, p = S.chunk(2, -2)
        s = E(s, t - 1) + p if kind.startswith("read") else E(s + gain.double()[:, t, :, None, None] * p, t)
        return torch.cat([s, torch.zeros_like(s)], -2)

    check(ReadBeforeWrite(inner) if kind.startswith("read") else Trapezoid(inner, gain), step, q=q, k=k)


@pytest.mark.parametrize("readout", ["relu", "sigmoid", "polynomial", "softcap"])
@pytest.mark.parametrize("gate", [0.0, -0.01])
def test_rows_that_do_not_decay(readout, gate):
    """Every token weighs in every row, with signs that cancel in the sum."""
    q, k = vectors()
    g, v, w = torch.full(GRID, gate), torch.randn(*GRID, WIDTH), torch.randn(*GRID, WIDTH)
    place = torch.arange(TIME, dtype=torch.float64)
    z = torch.einsum("bihn,bjhn->bhij", q.double(), k.double())
    z = z * (gate * (place[:, None] - place)).exp()
    seen = torch.ones(TIME, TIME, dtype=torch.bool).tril()
    alpha = plain.READOUTS[readout](z) * seen
    op = CoefficientDynamics(q, k, Scalar(log_decay=g), readout=READOUTS[readout]).operator()
    assert plain.error(op @ v, plain.mix(alpha, v.double())) <= 1e-6
    assert plain.error(op.T @ w, plain.mix(alpha.mT, w.double())) <= 1e-6


@pytest.mark.parametrize("kind", ["identity", "rope", "alibi"])
def test_softmax(kind):
    q, k, v = 4 * torch.randn(*GRID, DIM), torch.randn(*GRID, DIM), torch.randn(*GRID, WIDTH)
    place = torch.arange(TIME, dtype=torch.float64)
    wide_q, wide_k = q.double(), k.double()
    evolution, bias = Identity(), torch.zeros(1, 1, dtype=torch.float64)
    if kind == "rope":
        angles = 10000 ** -(torch.arange(3, dtype=torch.float64) / 3)
        evolution = Rotation(-angles)
        turn = torch.polar(torch.ones(TIME, 1, 3, dtype=torch.float64), place[:, None, None] * angles)
        pair = [torch.complex(*x.chunk(2, -1)) * turn for x in (wide_q, wide_k)]
        wide_q, wide_k = (torch.cat([x.real, x.imag], -1) for x in pair)
    if kind == "alibi":
        slope = torch.tensor([0.5, 0.004])
        evolution, bias = Unipotent(-slope), -slope.double()[:, None, None] * (place[:, None] - place)
        one, none = torch.ones_like(q[..., :1]), torch.zeros_like(q[..., :1])
        q, k = torch.cat([q, one, none], -1), torch.cat([k, none, one], -1)
    z = torch.einsum("bihn,bjhn->bhij", wide_q, wide_k) + bias
    z = z.masked_fill(~torch.ones(TIME, TIME, dtype=torch.bool).tril(), -math.inf)
    want = plain.mix(torch.softmax(z, -1), v.double())
    # what is rounded is the score as it stands inside exp, biases of far tokens apart: those weigh nothing
    largest = float(torch.where(z > z.amax(-1, keepdim=True) - 30, z, 0.0).abs().max())
    got = CoefficientDynamics(q, k, evolution, readout=Exp(), normalizer=RowSum()).operator() @ v
    assert plain.error(got, want) <= 1e-6 * max(1.0, largest)
