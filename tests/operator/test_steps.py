"""Elementwise evolutions taken token by token, against the equation in float64."""

import pytest
import torch
from torch.nn.functional import softplus

from mixerlens import families
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.normalizer import RowSum
from mixerlens.operator import oracle_coefficients, steps
from mixerlens.readout import RealPart
from mixerlens.support import Support

BATCH, TIME, HEADS, DIM = 2, 23, 4, 3


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Small sizes too, in buffers of three tokens."""
    monkeypatch.setattr(steps, "LONG", 0)
    monkeypatch.setattr(steps, "BUFFER", 3 * BATCH * HEADS * DIM * 2 * 16)
    swept = []
    run = steps.sweep
    monkeypatch.setattr(steps, "sweep", lambda *args, **more: swept.append(1) or run(*args, **more))
    moments = steps.lag_moments
    monkeypatch.setattr(steps, "lag_moments", lambda *args: swept.append(1) or moments(*args))
    yield
    assert swept, "the fast path was not taken"


def randn(*shape, kind=torch.float64):
    return torch.randn(*shape, dtype=kind)


def evolutions():
    torch.manual_seed(1)
    gates = -torch.rand(BATCH, TIME, HEADS, dtype=torch.float64)
    closed = gates.clone()
    closed[:, 5::7] = -torch.inf
    turned = torch.polar(torch.rand(BATCH, TIME, HEADS, DIM, dtype=torch.float64), randn(BATCH, TIME, HEADS, DIM))
    return {
        "scalar": Scalar(log_decay=closed),
        "one for all": Scalar(decay=torch.tensor(-0.9, dtype=torch.float64)),
        "log decay": Diagonal(log_decay=-torch.rand(1, TIME, HEADS, DIM, dtype=torch.float64)),
        "signed": Diagonal(decay=randn(BATCH, TIME, HEADS, DIM)),
        "turned": Diagonal(decay=turned),
        "rate and step": Diagonal(rate=-torch.rand(HEADS, DIM, dtype=torch.float64), step_size=-gates),
        "turning rate": Diagonal(
            rate=torch.complex(-torch.rand(HEADS, DIM), torch.randn(HEADS, DIM)), step_size=-gates
        ),
        "rates in time": Diagonal(rate=-torch.rand(1, TIME, HEADS, DIM, dtype=torch.float64), step_size=-gates),
    }


def segments():
    s = torch.tensor([[0] * 5 + [1] * 10 + [-1] * 3 + [2] * 5, [-1] * 4 + [7] * 19])
    return Support(segments=s)


def mixer(name, support=None, groups=2, **more):
    e = evolutions()[name]
    torch.manual_seed(0)
    kind = torch.complex128 if e.is_complex else torch.float64
    query, key = randn(BATCH, TIME, groups, DIM, kind=kind), randn(BATCH, TIME, 1, DIM, kind=kind)
    scaling = torch.rand(BATCH, TIME, HEADS, dtype=torch.float64)
    return CoefficientDynamics(query, key, e, scaling, support=support or Support(), **more)


def error(got, want):
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, HEADS])
@pytest.mark.parametrize("name", evolutions())
def test_forward_and_transposed(name, groups, packed):
    d = mixer(name, segments() if packed else None, groups)
    alpha, v, w = oracle_coefficients(d), randn(BATCH, TIME, HEADS, 2), randn(1, TIME, 1, 1)
    tiles = v.transpose(1, 2).to(alpha.dtype)
    assert error(d.operator() @ v, (alpha @ tiles).transpose(1, 2)) < 1e-13
    assert error(d.operator().T @ v, (alpha.mT @ tiles).transpose(1, 2)) < 1e-13
    shared = w.transpose(1, 2).to(alpha.dtype)
    assert error(d.operator().T @ w, (alpha.mT @ shared).transpose(1, 2)) < 1e-13


def test_real_part_and_row_sum():
    d = mixer("turned", readout=RealPart(2.0))
    v = randn(BATCH, TIME, HEADS, 2)
    want = oracle_coefficients(d)
    assert error(d.operator() @ v, (want @ v.transpose(1, 2)).transpose(1, 2)) < 1e-13
    d = CoefficientDynamics(
        torch.rand(BATCH, TIME, 1, DIM).double(), torch.rand(1, TIME, 1, DIM).double(), evolutions()["log decay"],
        normalizer=RowSum(), support=segments(),
    )  # fmt: skip
    want = oracle_coefficients(d) @ v.transpose(1, 2)
    assert error(d.operator() @ v, want.transpose(1, 2)) < 1e-13


@pytest.mark.parametrize("cut", [3, 7, 17, 20])
@pytest.mark.parametrize("packed", [False, True])
def test_continued_from_a_state(packed, cut):
    d, v = mixer("signed", segments() if packed else None), randn(BATCH, TIME, HEADS, 2)
    whole = d.operator() @ v
    first, state = d.select_tokens(0, cut).operator().apply(v[:, :cut], return_state=True)
    assert error(first, whole[:, :cut]) < 1e-13
    rest = d.select_tokens(cut, TIME)
    assert error(rest.operator().apply(v[:, cut:], state), whole[:, cut:]) < 1e-13


def test_single_precision_is_rounded_once():
    d = mixer("rate and step").to(torch.float32)
    v = randn(BATCH, TIME, HEADS, 1).float()
    want = oracle_coefficients(d) @ v.double().transpose(1, 2)
    assert (d.operator() @ v).dtype == torch.float32
    assert error(d.operator() @ v, want.transpose(1, 2)) < 2e-7


def test_moments_of_the_lag():
    """Each relative to its own size, so that nothing may cancel; several tiles, spans and segments."""
    token = torch.arange(TIME, dtype=torch.float64)
    lag = (token[:, None] - token).clamp(min=0)
    for name in evolutions():
        for support in (None, segments()):
            d = mixer(name, support)
            alpha, moments = oracle_coefficients(d), steps.lag_moments(d, 4)
            for p in range(5):
                assert error(moments[..., p], (alpha * lag**p).sum(-1)) < 1e-13, (name, p)


def test_groups_of_heads(monkeypatch):
    """Heads in several groups answer as all together, their states too."""
    d, v = mixer("rate and step", segments(), groups=1), randn(BATCH, TIME, HEADS, 2)
    alpha = oracle_coefficients(d)
    monkeypatch.setattr(steps, "BUFFER", 2 * BATCH * DIM * 2 * 8)
    assert error(d.operator() @ v, (alpha @ v.transpose(1, 2)).transpose(1, 2)) < 1e-13
    assert error(d.operator().T @ v, (alpha.mT @ v.transpose(1, 2)).transpose(1, 2)) < 1e-13
    first, state = d.select_tokens(0, 9).operator().apply(v[:, :9], return_state=True)
    rest = d.select_tokens(9, TIME).operator().apply(v[:, 9:], state)
    whole = (alpha @ v.transpose(1, 2)).transpose(1, 2)
    assert error(first, whole[:, :9]) < 1e-13
    assert error(rest, whole[:, 9:]) < 1e-13


@pytest.mark.parametrize("step", [1e-6, 1e-4, 1e-2])
def test_constant_tokens_of_single_precision(step):
    """Constant inputs, where all roundings have the same sign: a float32 recurrence is off by 3e-5 here."""
    time = 20_000
    one, dt = torch.ones(1, time, 1), torch.full((1, time, 1), step)
    d = families.mamba(-torch.ones(1, 1), one, one, dt)
    h, age = dt[0, 0].double(), torch.arange(time, dtype=torch.float64)
    kernel = h * torch.exp(-h * age)
    mass, way = kernel.cumsum(0), (kernel * age).cumsum(0)
    assert error(d.operator().row_sum()[0, :, 0], mass) < 1e-7
    assert error(d.operator().column_sum()[0, :, 0], mass.flip(0)) < 1e-7
    moments = steps.lag_moments(d, 1)[0, 0]
    assert float(((moments[:, 0] - mass) / mass).abs().max()) < 1e-11
    assert float(((moments[1:, 1] - way[1:]) / way[1:]).abs().max()) < 1e-11


@pytest.mark.parametrize("pace", [1e-3, 1.0, 40.0])
def test_first_moment_relative_to_the_way_of_its_own_row(pace):
    """Fast decays leave a first moment of 1e-17 of the row's mass, and signed readouts cancel: row by row, the error is
    small beside sum_j |alpha_ij| (i - j)."""
    torch.manual_seed(0)
    time, channels, state = 90, 8, 3
    B, C = torch.randn(1, time, state), torch.randn(1, time, state)
    dt = pace * torch.exp(0.5 * torch.randn(1, time, channels))
    rate = -torch.arange(1.0, state + 1).repeat(channels, 1)
    d = families.mamba(rate, B, C, dt)
    B, C, dt = B[0].double(), C[0].double(), dt[0].double()
    way, scale = torch.zeros(2, channels, time, dtype=torch.float64)
    for j in range(time):  # an impulse at j, followed through the rows after it
        u = dt[j][:, None] * B[j]
        for i in range(j + 1, time):
            u = torch.exp(dt[i][:, None] * rate.double()) * u
            alpha = u @ C[i]
            way[:, i] += alpha * (i - j)
            scale[:, i] += alpha.abs() * (i - j)
    got = steps.lag_moments(d, 1)[0, :, :, 1]
    assert float(((got - way).abs()[:, 1:] / scale[:, 1:]).max()) < 1e-11


def test_what_grows():
    """e^60 a token leaves float32 within a few tokens: alpha does so too, but not for the keys that are 0."""
    gates = torch.full((1, TIME, 1), 60.0)
    key = torch.zeros(1, TIME, 1, 1)
    key[:, -1] = 1
    for e in (Diagonal(rate=torch.ones(1, 1), step_size=gates), Scalar(log_decay=gates)):
        d = CoefficientDynamics(softplus(torch.randn(1, TIME, 1, 1)), key, e)
        assert torch.isfinite(d.operator() @ torch.ones(1, TIME, 1, 1)).all()


def test_packed_sequences_that_share_their_steps():
    one = torch.randn(1, TIME, 1, DIM)
    e = Diagonal(rate=-torch.rand(HEADS, DIM), step_size=torch.rand(1, 1, HEADS))
    d = CoefficientDynamics(one, one, e, support=segments())
    v = torch.randn(BATCH, TIME, HEADS, 1)
    want = oracle_coefficients(d.to(torch.float64)) @ v.double().transpose(1, 2)
    assert error(d.operator() @ v, want.transpose(1, 2)) < 2e-7
    assert error(d.to(torch.float64).operator() @ v.double(), want.transpose(1, 2)) < 1e-13


@pytest.mark.parametrize("frequency", [1e2, 1e4])
def test_phases_are_formed_in_double_precision(frequency):
    """A phase of 1e3 in float32 is off by 6e-5."""
    torch.manual_seed(0)
    rate = torch.complex(-0.5 * torch.ones(HEADS, DIM), frequency * torch.randn(HEADS, DIM))
    e = Diagonal(rate=rate, step_size=0.1 * torch.rand(1, TIME, HEADS))
    query, key = (torch.randn(1, TIME, 1, DIM, dtype=torch.complex64) for _ in range(2))
    d = CoefficientDynamics(query, key, e)
    v = torch.randn(1, TIME, HEADS, 1)
    alpha = oracle_coefficients(d.to(torch.float64))
    assert error(d.operator() @ v, (alpha @ v.transpose(1, 2).to(alpha.dtype)).transpose(1, 2)) < 1e-6
    assert error(d.operator().T @ v, (alpha.mT @ v.transpose(1, 2).to(alpha.dtype)).transpose(1, 2)) < 1e-6
