"""Elementwise evolutions in single precision, tile by tile, against the equation in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import softplus

from mixerlens import families
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.normalizer import RowSum
from mixerlens.operator import oracle_coefficients, single, steps
from mixerlens.readout import RealPart
from mixerlens.support import Support

BATCH, TIME, HEADS, DIM = 2, 71, 4, 3
SEGMENTS = Support(segments=torch.tensor([[0] * 15 + [1] * 40 + [-1] * 3 + [2] * 13, [-1] * 4 + [7] * 67]))


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Small sizes too, in tiles of five tokens; what was swept."""
    monkeypatch.setattr(steps, "LONG", 0)
    monkeypatch.setattr(single, "TILE", 5)
    swept = []
    run = single.sweep
    monkeypatch.setattr(single, "sweep", lambda *args, **more: swept.append(1) or run(*args, **more))
    return swept


def evolutions():
    torch.manual_seed(1)
    gates = -torch.rand(BATCH, TIME, HEADS)
    closed, rate = gates.clone(), -torch.rand(HEADS, DIM)
    closed[:, 5::7] = -torch.inf
    return {
        "scalar": Scalar(log_decay=closed),
        "one for all": Scalar(decay=torch.tensor(-0.9)),
        "nothing decays": Scalar(decay=torch.tensor(1.0)),
        "log decay": Diagonal(log_decay=-torch.rand(1, TIME, HEADS, DIM)),
        "signed": Diagonal(decay=2 * torch.rand(BATCH, TIME, HEADS, DIM) - 1),
        "turned": Diagonal(
            decay=torch.polar(torch.rand(BATCH, TIME, HEADS, DIM), torch.randn(BATCH, TIME, HEADS, DIM))
        ),
        "rate and step": Diagonal(rate=rate, step_size=-gates),
        "steep": Diagonal(rate=300 * rate, step_size=-gates),
        "turning rate": Diagonal(rate=torch.complex(rate, torch.randn(HEADS, DIM)), step_size=-gates),
        "rates in time": Diagonal(rate=-torch.rand(1, TIME, HEADS, DIM), step_size=-gates),
    }


def mixer(name, support=None, groups=2, **more):
    e = evolutions()[name]
    torch.manual_seed(0)
    kind = torch.complex64 if e.is_complex else torch.float32
    query, key = torch.randn(BATCH, TIME, groups, DIM, dtype=kind), torch.randn(BATCH, TIME, 1, DIM, dtype=kind)
    return CoefficientDynamics(query, key, e, torch.rand(BATCH, TIME, HEADS), support=support or Support(), **more)


def error(got, want):
    return float((got - want).abs().max() / want.abs().max())


def tiles(x, like):
    return x.transpose(1, 2).to(like.dtype)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("groups", [1, HEADS])
@pytest.mark.parametrize("name", evolutions())
def test_forward_and_transposed(counted, name, groups, packed):
    d = mixer(name, SEGMENTS if packed else None, groups)
    alpha = oracle_coefficients(d.to(torch.float64))
    v, w = torch.randn(BATCH, TIME, HEADS, 2), torch.randn(1, TIME, 1, 1)
    op = d.operator()
    assert error(op @ v, (alpha @ tiles(v, alpha)).transpose(1, 2)) < 1e-6
    assert error(op.T @ v, (alpha.mT @ tiles(v, alpha)).transpose(1, 2)) < 1e-6
    assert error(op.T @ w, (alpha.mT @ tiles(w, alpha)).transpose(1, 2)) < 1e-6
    assert error(op.row_sum(), alpha.sum(-1).transpose(1, 2)) < 1e-6
    assert error(op.column_sum(), alpha.sum(-2).transpose(1, 2)) < 1e-6
    assert len(counted) == 5


def test_normalised_real_and_continued(counted):
    d = mixer("turned", readout=RealPart(2.0))
    v = torch.randn(BATCH, TIME, HEADS, 2)
    want = oracle_coefficients(d.to(torch.float64)) @ v.double().transpose(1, 2)
    assert error(d.operator() @ v, want.transpose(1, 2)) < 1e-6
    query, key = (torch.rand(BATCH, TIME, 1, DIM) for _ in range(2))
    d = CoefficientDynamics(query, key, evolutions()["log decay"], normalizer=RowSum(), support=SEGMENTS)
    want = oracle_coefficients(d.to(torch.float64)) @ v.double().transpose(1, 2)
    assert error(d.operator() @ v, want.transpose(1, 2)) < 1e-6
    d = mixer("signed", SEGMENTS)
    want = oracle_coefficients(d.to(torch.float64)) @ v.double().transpose(1, 2)
    first, state = d.select_tokens(0, 33).operator().apply(v[:, :33], return_state=True)
    rest = d.select_tokens(33, TIME).operator().apply(v[:, 33:], state)
    assert error(torch.cat([first, rest], 1), want.transpose(1, 2)) < 1e-6
    assert counted


@pytest.mark.parametrize("step", [1e-6, 1e-4, 1e-2])
def test_errors_do_not_grow_with_the_length(counted, step):
    """Constant inputs, where all roundings have the same sign: a float32 recurrence is off by 3e-5 here."""
    time = 20_000
    one, dt = torch.ones(1, time, 1), torch.full((1, time, 1), step)
    d = families.mamba(-torch.ones(1, 1), one, one, dt)
    decay = torch.exp(-dt[0, 0].double())
    want = dt[0, 0].double() * (1 - decay ** torch.arange(1, time + 1)) / (1 - decay)
    assert error(d.operator().row_sum()[0, :, 0], want) < 1e-6
    assert error(d.operator().column_sum()[0, :, 0], want.flip(0)) < 1e-6
    assert counted


@pytest.mark.parametrize("kind", ["rate", "decay", "log decay", "step"])
def test_what_grows_is_left_to_double_precision(counted, kind):
    """e^60 a token leaves float32 within a tile: alpha does so too, but not for the keys that are 0."""
    gates = torch.full((1, TIME, 1), 60.0)
    e = {
        "rate": Diagonal(rate=torch.ones(1, 1), step_size=gates),
        "step": Diagonal(rate=-torch.ones(1, 1), step_size=-gates),
        "decay": Diagonal(decay=gates.exp()[..., None]),
        "log decay": Scalar(log_decay=gates),
    }[kind]
    key = torch.zeros(1, TIME, 1, 1)
    key[:, -1] = 1
    d = CoefficientDynamics(softplus(torch.randn(1, TIME, 1, 1)), key, e)
    y = d.operator() @ torch.ones(1, TIME, 1, 1)
    assert torch.isfinite(y).all()
    assert not counted


def test_packed_sequences_that_share_their_steps(counted):
    one = torch.randn(1, TIME, 1, DIM)
    e = Diagonal(rate=-torch.rand(HEADS, DIM), step_size=torch.rand(1, 1, HEADS))
    d = CoefficientDynamics(one, one, e, support=SEGMENTS)
    v = torch.randn(BATCH, TIME, HEADS, 1)
    want = oracle_coefficients(d.to(torch.float64)) @ v.double().transpose(1, 2)
    assert error(d.operator() @ v, want.transpose(1, 2)) < 1e-6
    wide = d.to(torch.float64)
    assert error(wide.operator() @ v.double(), want.transpose(1, 2)) < 1e-13
    assert counted


@pytest.mark.parametrize("frequency", [1e2, 1e4])
def test_phases_are_formed_in_double_precision(counted, frequency):
    """A phase of 1e3 in float32 is off by 6e-5."""
    torch.manual_seed(0)
    rate = torch.complex(-0.5 * torch.ones(HEADS, DIM), frequency * torch.randn(HEADS, DIM))
    e = Diagonal(rate=rate, step_size=0.1 * torch.rand(1, TIME, HEADS))
    query, key = (torch.randn(1, TIME, 1, DIM, dtype=torch.complex64) for _ in range(2))
    d = CoefficientDynamics(query, key, e)
    v = torch.randn(1, TIME, HEADS, 1)
    alpha = oracle_coefficients(d.to(torch.float64))
    assert error(d.operator() @ v, (alpha @ tiles(v, alpha)).transpose(1, 2)) < 1e-6
    assert error(d.operator().T @ v, (alpha.mT @ tiles(v, alpha)).transpose(1, 2)) < 1e-6
    assert counted
