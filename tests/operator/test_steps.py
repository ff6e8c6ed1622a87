"""Elementwise evolutions taken token by token, against the equation in float64."""

import pytest
import torch

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
