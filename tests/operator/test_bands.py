"""alpha of mixers with dense maps, band by band, against the recurrence of every impulse in float64."""

import pytest
import torch
from torch.nn.functional import normalize

from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta, Dense, DiagonalPlusRankOne, Scalar
from mixerlens.normalizer import PerToken
from mixerlens.operator import bands, linear, oracle_coefficients
from mixerlens.support import Support

BATCH, HEADS, DIM = 2, 2, 3
BAND = bands.CHUNK * bands.CHUNKS


@pytest.fixture(autouse=True)
def any_length(monkeypatch):
    monkeypatch.setattr(bands, "WORTH", 0)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def mixers(time):
    torch.manual_seed(time)
    query, key = randn(BATCH, time, HEADS, DIM), normalize(randn(BATCH, time, 1, DIM), dim=-1)
    beta, gates = 1.99 * torch.rand(BATCH, time, HEADS).double(), -torch.rand(BATCH, time, HEADS).double() / 50
    left, right = normalize(randn(BATCH, time, HEADS, DIM), dim=-1), normalize(randn(1, time, 1, DIM), dim=-1)
    slow = gates.unsqueeze(-1).expand(-1, -1, -1, DIM)
    segments = (torch.arange(time) // 300).expand(BATCH, -1)
    eta = PerToken(1 + beta)
    return {
        "shared keys": CoefficientDynamics(query, key, Delta(key, beta), scaling=beta),
        "gated": CoefficientDynamics(query, key, Delta(key, beta, log_decay=gates), scaling=beta, normalizer=eta),
        "one batch": CoefficientDynamics(query[:1], key[:1], Delta(key[:1], beta[:1]), normalizer=eta),
        "queries alone differ": CoefficientDynamics(query, key, Delta(key, beta[:, :, :1])),
        "packed": CoefficientDynamics(query, key, Delta(key, beta), support=Support(segments=segments)),
        "window": CoefficientDynamics(query, key, Delta(key, beta), support=Support(window=70)),
        "oblique": CoefficientDynamics(
            query, key, DiagonalPlusRankOne(left=-0.5 * left, right=right, log_decay=slow), scaling=beta
        ),
    }


def error(got, want):
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("time", [1, 63, 64, 65, 200, BAND - 1, BAND, 2 * BAND + 3 * bands.CHUNK + 5])
@pytest.mark.parametrize("name", mixers(2))
def test_every_entry(name, time):
    mixer = mixers(time)[name]
    assert bands.fits(mixer)
    assert error(linear.dense(mixer), oracle_coefficients(mixer)) < 1e-12


@pytest.mark.parametrize("growth", [bands.GROWTH, 0.0])  # products in float32, and in float64
@pytest.mark.parametrize(("correlated", "beta"), [(0.0, 1.0), (3.0, 1.99), (1.0, 1.999)])
def test_single_precision(correlated, beta, growth, monkeypatch):
    monkeypatch.setattr(bands, "GROWTH", growth)
    torch.manual_seed(0)
    time = 2 * BAND + 7
    query, key = torch.randn(1, time, 1, 16) / 4, normalize(torch.randn(1, time, 1, 16) + correlated, dim=-1)
    strength = torch.full((1, time, 1), beta)
    mixer = CoefficientDynamics(query, key, Delta(key, strength), scaling=strength)
    got = linear.dense(mixer)
    assert got.dtype == torch.float32
    assert error(got, oracle_coefficients(mixer.to(torch.float64))) < 1e-6


def test_states_beyond_single_precision():
    """An old key's state leaves the range of float32; a query that has become small reads it all the same."""
    torch.manual_seed(0)
    time, growth = 2 * BAND, 0.2
    token = torch.arange(time).view(1, -1, 1, 1)
    query = torch.randn(1, time, 1, 4, dtype=torch.float64) * torch.exp(-0.1 * token)
    key = normalize(torch.randn(1, time, 1, 4, dtype=torch.float64), dim=-1) * torch.exp(-0.1 * token)
    beta, gates = torch.zeros(1, time, 1), torch.full((1, time, 1), growth, dtype=torch.float64)
    mixer = CoefficientDynamics(query.float(), key.float(), Delta(key.float(), beta, log_decay=gates))
    want = oracle_coefficients(mixer.to(torch.float64))
    rows = slice(0, 700)  # beyond, queries have no digits left
    scale = want[..., rows, :].abs().amax(-1, keepdim=True)
    assert float(((linear.dense(mixer)[..., rows, :] - want[..., rows, :]).abs() / scale).max()) < 1e-5


@pytest.mark.parametrize("kind", ["grows", "grows and shrinks"])
def test_maps_that_stretch_one_direction_in_single_precision(kind):
    """No key lies in the direction that is stretched, so alpha stays small; the roundings of a state do not."""
    torch.manual_seed(0)
    time, dim = BAND, 16
    stretched = normalize(randn(1, 1, 1, dim), dim=-1)
    key = randn(1, time, 1, dim)
    key = normalize(key - (key * stretched).sum(-1, keepdim=True) * stretched, dim=-1)
    direction = stretched.expand(1, time, 1, dim).float().contiguous()
    beta = torch.full((1, time, 1), 1 + 6.9 ** (1 / 64))
    if kind == "grows and shrinks":
        beta = torch.full((1, time, 1), 1 + 2**0.25)
        beta[:, (torch.arange(time) // 32) % 2 == 1] = 1 + 2**-0.25
    mixer = CoefficientDynamics(torch.randn(1, time, 1, dim) / 4, key.float(), Delta(direction, beta))
    assert bands._bounded(mixer) == [False]
    assert error(linear.dense(mixer), oracle_coefficients(mixer.to(torch.float64))) < 1e-6


def test_what_is_certified_not_to_stretch():
    torch.manual_seed(0)
    key, beta = normalize(torch.randn(2, 300, 2, 8), dim=-1), 2 * torch.rand(2, 300, 4)
    query, gates = torch.randn(2, 300, 4, 8), -torch.rand(2, 300, 4)
    assert bands._bounded(CoefficientDynamics(query, key, Delta(key, beta, log_decay=gates))) == [True] * 4
    beta[1, 7, 2], gates[0, 3, 0] = 5.0, 1.0
    assert bands._bounded(CoefficientDynamics(query, key, Delta(key, beta, log_decay=gates))) == [False, True] * 2
    assert bands._bounded(CoefficientDynamics(query, key, Delta(key, beta.clamp(max=2)))) == [True] * 4
    oblique = DiagonalPlusRankOne(left=-key, right=key, log_decay=gates.unsqueeze(-1).expand(-1, -1, -1, 8))
    assert bands._bounded(CoefficientDynamics(query, key, oblique)) == [False] * 4


def test_what_goes_another_way():
    torch.manual_seed(0)
    query, key, beta = randn(1, 9, 2, 4), randn(1, 9, 2, 4), torch.rand(1, 9, 2).double()
    delta = CoefficientDynamics(query, key, Delta(key, beta))
    scalar = CoefficientDynamics(query, key, Scalar(log_decay=-beta))
    dense = CoefficientDynamics(query, key, Dense(randn(1, 9, 2, 4, 4) / 4))
    for mixer in (scalar, dense, CoefficientSum((delta, delta), (1.0, 0.5))):
        assert not bands.fits(mixer)
        assert error(linear.dense(mixer), oracle_coefficients(mixer)) < 1e-12
