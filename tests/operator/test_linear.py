"""Views linear in alpha, by scans, against the coefficients written out in float64."""

import pytest
import torch
from torch.nn.functional import normalize

from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Delta, Diagonal, Identity, ReadBeforeWrite, Rotation, Scalar
from mixerlens.normalizer import PerToken, RowSum
from mixerlens.operator import linear, oracle_coefficients
from mixerlens.readout import Exp, RealPart
from mixerlens.support import Support

BATCH, TIME, HEADS, DIM = 2, 90, 4, 6


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def packed():
    return Support(segments=torch.tensor([[0] * 20 + [1] * 40 + [-1] * 10 + [2] * 20, [-1] * 33 + [0] * 57]))


def mixers():
    torch.manual_seed(0)
    query, key = randn(BATCH, TIME, 2, DIM), normalize(randn(BATCH, TIME, 1, DIM), dim=-1)
    gates, beta = -torch.rand(BATCH, TIME, HEADS).double(), torch.rand(BATCH, TIME, HEADS).double()
    turned = torch.polar(torch.rand(1, TIME, HEADS, DIM).double(), randn(1, TIME, HEADS, DIM))
    scalar = CoefficientDynamics(query, key, Scalar(log_decay=gates), beta)
    delta = CoefficientDynamics(query, key, Delta(key, beta, log_decay=gates))
    slow = Diagonal(log_decay=-torch.rand(1, TIME, HEADS, DIM).double())
    pending = (torch.cat([query, query], -1), torch.cat([torch.zeros_like(key), key], -1))
    positive = {"query": query.abs(), "key": key.abs()}
    return {
        "scalar": scalar,
        "delta": delta,
        "delta, packed": CoefficientDynamics(query, key, delta.evolution, support=packed()),
        "modes": CoefficientDynamics(query, key, Diagonal(decay=turned), readout=RealPart(2.0)),
        "complex": CoefficientDynamics(query, key, Diagonal(decay=turned), support=packed()),
        "rotation": CoefficientDynamics(query, key, Rotation(randn(HEADS, DIM // 2)), normalizer=PerToken(1 + beta)),
        "read first": CoefficientDynamics(*pending, ReadBeforeWrite(slow)),
        "row sum": CoefficientDynamics(**positive, evolution=Scalar(log_decay=gates), normalizer=RowSum()),
        "softmax": CoefficientDynamics(query, key, Identity(), readout=Exp(), normalizer=RowSum(), support=packed()),
        "window": CoefficientDynamics(query, key, Scalar(log_decay=gates), support=Support(window=17)),
        "sum": CoefficientSum((scalar, delta), (1.0, -0.5)),
    }  # fmt: skip


@pytest.fixture(params=mixers())
def case(request, monkeypatch):
    monkeypatch.setattr(linear, "ANCHOR", 25)  # several blocks
    mixer = mixers()[request.param]
    return mixer, oracle_coefficients(mixer)


def error(got, want):
    return float((got - want).abs().max() / want.abs().max())


def test_sums(case):
    mixer, alpha = case
    op = mixer.operator()
    assert error(op.row_sum().transpose(1, 2), alpha.sum(-1)) < 1e-12
    assert error(op.column_sum().transpose(1, 2), alpha.sum(-2)) < 1e-12
    assert error(op.T.column_sum(), op.row_sum()) == 0
    assert error(op.T.row_sum(), op.column_sum()) == 0


def test_moments_of_the_lag(case):
    mixer, alpha = case
    token = torch.arange(TIME, dtype=torch.float64)
    lag = token[:, None] - token
    moments = mixer.operator().lag_moments(3)
    assert moments.shape == (BATCH, TIME, mixer.heads, 4)
    for power in range(4):
        assert error(moments[..., power].transpose(1, 2), (alpha * lag**power).sum(-1)) < 1e-12, power


@pytest.mark.parametrize("pixels", [1, 7, TIME, TIME + 5])
def test_signed_map(case, pixels):
    mixer, alpha = case
    start = [p * TIME // pixels for p in range(pixels)]
    stop = [max((p + 1) * TIME // pixels, start[p] + 1) for p in range(pixels)]
    rows = torch.stack([alpha[:, :, a:b].mean(-2) for a, b in zip(start, stop, strict=True)], -2)
    want = torch.stack([rows[..., a:b].mean(-1) for a, b in zip(start, stop, strict=True)], -1)
    assert error(mixer.operator().heatmap(pixels, signed=True), want) < 1e-12


def test_dense(case):
    mixer, alpha = case
    assert error(mixer.operator().to_dense(), alpha) < 1e-12
    assert error(mixer.operator().T.to_dense(), alpha.mT) < 1e-12


def test_long_lags_do_not_cancel():
    """The mean distance of a steady decay is known: a / (1 - a) tokens, far from the start of 30,000."""
    a, time = 0.75, 30_000
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    d = CoefficientDynamics(one, one, Scalar(decay=torch.tensor(a, dtype=torch.float64)), length=time)
    zeroth, first, second = d.operator().lag_moments(2)[0, -1, 0].tolist()
    assert zeroth == pytest.approx(1 / (1 - a), rel=1e-13)
    assert first == pytest.approx(a / (1 - a) ** 2, rel=1e-12)
    assert second == pytest.approx(a * (1 + a) / (1 - a) ** 3, rel=1e-10)


def test_gradients_reach_the_parameters():
    torch.manual_seed(0)
    leaf = torch.rand(1, 12, 1, dtype=torch.float64).requires_grad_()
    query, key = randn(1, 12, 1, 3), randn(1, 12, 1, 3)

    def views(decay):
        op = CoefficientDynamics(query, key, Scalar(decay=decay)).operator()
        return op.row_sum(), op.column_sum(), op.lag_moments(1), op.to_dense(), op.heatmap(4, signed=True)

    assert torch.autograd.gradcheck(views, leaf)


@pytest.mark.parametrize("order", [-1, 1.0, "two"])
def test_refused_orders(order):
    with pytest.raises(InputError, match="order is"):
        mixers()["scalar"].operator().lag_moments(order)
