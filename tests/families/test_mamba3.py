"""Mamba-3: its rule's order of accuracy, its complex state, Mamba-2 as a corner, several inputs and outputs."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad

from families.helpers import error, rand, randn
from mixerlens import families, references
from mixerlens.errors import InputError

BATCH, TIME, HEADS, STATE, WIDTH = 2, 150, 4, 6, 3


def arguments(time=TIME, groups=2, state=STATE):
    return {
        "A": -0.1 - rand(BATCH, time, HEADS),
        "B": randn(BATCH, time, groups, state),
        "C": randn(BATCH, time, groups, state),
        "dt": 0.3 * rand(BATCH, time, HEADS),
        "trapezoid": rand(BATCH, time, HEADS),
    }


def test_weight_one_is_mamba2():
    given, A, u = arguments(), -rand(HEADS), randn(BATCH, TIME, HEADS, WIDTH)
    given["trapezoid"] = torch.ones_like(given["dt"])
    want = families.mamba2(A=A, B=given["B"], C=given["C"], dt=given["dt"]).operator() @ u
    assert error(families.mamba3(**(given | {"A": A})).operator() @ u, want) <= 1e-12


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("turning", [1, 2, 3])
def test_the_rotation_is_a_complex_state(layout, turning):
    """One complex number a pair: h' = exp(dt A - i theta) (h + (1 - w) dt b u) + w dt b u, y = sum Re(conj(c) h)."""
    given, u = arguments(groups=1), randn(BATCH, TIME, HEADS, WIDTH)
    angle = randn(BATCH, TIME, 1, turning)

    def pairs(x):
        first, second = (x[..., 0::2], x[..., 1::2]) if layout == "interleaved" else x.chunk(2, -1)
        return torch.complex(first, second)

    b, c = (pairs(given[n][:, :, 0]) for n in ("B", "C"))
    theta = torch.nn.functional.pad(angle[:, :, 0], (0, STATE // 2 - turning))
    h = torch.zeros(BATCH, HEADS, STATE // 2, WIDTH, dtype=torch.complex128)
    before, rows = torch.zeros_like(h), []
    for t in range(TIME):
        A, dt, w = (given[n][:, t, :, None, None] for n in ("A", "dt", "trapezoid"))
        write = b[:, t, None, :, None] * u[:, t, :, None]
        step = torch.exp(dt * A - 1j * theta[:, t, None, :, None])
        h = step * (h + (1 - w) * dt * before) + w * dt * write
        before = write
        rows.append((c[:, t, None, :, None].conj() * h).real.sum(2))
    dynamics = families.mamba3(**given, angle=angle, layout=layout)
    assert error(dynamics.operator() @ u, torch.stack(rows, 1)) <= 1e-12
    other = families.mamba3(**given, angle=-angle, layout=layout)
    assert error(other.operator() @ u, torch.stack(rows, 1)) > 0.05  # the sign of the turn
    assert dynamics.dim == 2 * STATE
    assert int(dynamics.operator().state_rank(tol=1e-10).max()) == STATE  # h and the pending token are read together


@pytest.mark.parametrize(("weight", "order"), [(1.0, 1), (0.5, 2)])
def test_half_weights_are_second_order(weight, order):
    """h' = -h + b(s) u(s) up to s = 2 with smooth b and u, against scipy's quadrature of the exact solution."""

    def force(s):
        return (1 + 0.5 * torch.sin(3 * s)) * torch.cos(2 * s)

    exact, _ = quad(lambda s: float(torch.exp(torch.tensor(s - 2.0).double()) * force(torch.tensor(s).double())), 0, 2)
    gaps = []
    for steps in (100, 200):
        s = 2 * torch.arange(1, steps + 1, dtype=torch.float64)[None, :, None] / steps
        one = torch.ones_like(s)
        d = families.mamba3(
            A=-torch.ones(1).double(),
            B=(1 + 0.5 * torch.sin(3 * s))[..., None],
            C=one[..., None],
            dt=2 * one / steps,
            trapezoid=weight * one,
        )
        # what the first step takes from time 0, where no token stands: a share of the force there, which is 1
        start = (1 - weight) * 2 / steps * torch.exp(torch.tensor(-2.0).double())
        gaps.append(abs(float((d.operator() @ torch.cos(2 * s)[..., None])[0, -1, 0, 0] + start) - exact))
    assert 0.9 * 2**order < gaps[0] / gaps[1] < 1.1 * 2**order


def test_several_inputs_and_outputs_are_mixers_that_share_their_evolution():
    """MIMO: h = a R h + beta sum_r B_r u_r^T (before) + gamma sum_r B_r u_r^T (now), y_s = h^T C_s."""
    ranks, given = 2, arguments()
    B, C = ([randn(BATCH, TIME, HEADS, STATE) for _ in range(ranks)] for _ in range(2))
    u = [randn(BATCH, TIME, HEADS, WIDTH) for _ in range(ranks)]
    shared = {n: given[n] for n in ("A", "dt", "trapezoid")}
    h = torch.zeros(BATCH, HEADS, STATE, WIDTH).double()
    before, rows = torch.zeros_like(h), [[], []]
    for t in range(TIME):
        A, dt, w = (given[n][:, t, :, None, None] for n in ("A", "dt", "trapezoid"))
        write = sum(b[:, t, ..., None] * x[:, t, :, None] for b, x in zip(B, u, strict=True))
        h = torch.exp(A * dt) * (h + (1 - w) * dt * before) + w * dt * write
        before = write
        for s in range(ranks):
            rows[s].append((C[s][:, t, ..., None] * h).sum(2))
    for s in range(ranks):
        parts = [families.mamba3(B=B[r], C=C[s], **shared).operator() @ u[r] for r in range(ranks)]
        assert error(sum(parts), torch.stack(rows[s], 1)) <= 1e-12


def test_float32_over_a_thousand_tokens():
    given = {n: x.float() for n, x in (arguments(1000) | {"angle": randn(BATCH, 1000, 1, 3)}).items()}
    u = randn(BATCH, 1000, HEADS, WIDTH).float()
    got = families.mamba3(**given).operator() @ u
    assert got.dtype == torch.float32
    assert error(got.double(), references.mamba3(value=u, **given)) <= 1e-6


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"A": torch.ones(HEADS)}, "A must not be positive.*softplus"),
        ({"dt": -torch.ones(BATCH, TIME, HEADS)}, "dt must not be negative"),
        ({"trapezoid": 2 * torch.ones(BATCH, TIME, HEADS)}, "between 0 and 1, it reaches from 2 to 2"),
        ({"trapezoid": torch.ones(BATCH, TIME, 1)}, r"trapezoid \(2, 150, 1\)"),
        ({"angle": torch.ones(BATCH, TIME, 1, 4)}, "4 angles turn 8 of 6 dimensions"),
    ],
)
def test_a_likely_slip_is_refused_by_name(change, what):
    with pytest.raises(InputError, match=what):
        families.mamba3(**(arguments() | change))
