"""What is left out is certified: never more than said, and a good part of the work."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
import torch

from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Delta, Diagonal, Scalar
from mixerlens.operator import reductions
from mixerlens.operator.oracle import oracle_coefficients
from mixerlens.operator.streams import Bounded, Stream, walk
from mixerlens.readout import Exp
from mixerlens.support import Support

from .test_streams import reduced

TIME = 420


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(walk, "BLOCK", 64)
    monkeypatch.setattr(walk, "LOGS", 1)
    monkeypatch.setattr(walk, "ROWS", 16)
    monkeypatch.setattr(walk, "TILE", 2**15)


@pytest.fixture
def entries(monkeypatch):
    """Entries of alpha that were computed."""
    count = [0]
    tile = Stream._tile

    def counted(self, *args, **kwargs):
        made = tile(self, *args, **kwargs)
        count[0] += made.size.numel()
        return made

    monkeypatch.setattr(Stream, "_tile", counted)
    return count


def vectors(heads, dim, dtype=torch.float64, batch=2):
    return (torch.randn(batch, TIME, heads, dim, dtype=dtype) for _ in range(2))


def decaying(dtype=torch.float64):
    q, k = vectors(1, 4, dtype)
    rate = -torch.tensor([[0.5, 1, 2, 4], [1, 2, 3, 4]], dtype=torch.float64)
    return CoefficientDynamics(q, k, Diagonal(rate=rate, step_size=0.2 * torch.rand(2, TIME, 2, dtype=torch.float64)))


def shared(dtype=torch.float64):
    q, k = vectors(1, 8, dtype)
    g = -torch.tensor([0.05, 0.2, 0.1, 0.4], dtype=torch.float64) * torch.rand(2, TIME, 4, dtype=torch.float64)
    return CoefficientDynamics(q, k, Scalar(log_decay=g), scaling=torch.rand(2, TIME, 4, dtype=dtype))


def delta(dtype=torch.float64):
    q, k = (torch.nn.functional.normalize(x, dim=-1) for x in vectors(2, 6, dtype))
    g = -0.4 * torch.rand(2, TIME, 2, dtype=torch.float64)
    return CoefficientDynamics(q, k, Delta(k, torch.rand(2, TIME, 2, dtype=dtype) * 1.9, log_decay=g))


def waves(dtype=torch.float64):
    q, k = vectors(2, 3, dtype)
    a = torch.polar(0.7 + 0.25 * torch.rand(2, TIME, 2, 3).double(), torch.randn(2, TIME, 2, 3).double())
    return CoefficientDynamics(q, k, Diagonal(decay=a))


def bursts(dtype=torch.float64):
    """Decays with stretches that grow: what is far may be larger than what is near."""
    q, k = vectors(2, 3, dtype)
    a = torch.where((torch.arange(TIME) // 40) % 5 == 3, 1.12, 0.9).double()[None, :, None, None]
    return CoefficientDynamics(q, k, Diagonal(decay=a.expand(2, TIME, 2, 3)))


def forgetting_and_delta(dtype=torch.float64):
    return CoefficientSum((decaying(dtype), delta(dtype)), (0.5, -2.0))


def packed(dtype=torch.float64):
    d = decaying(dtype)
    segments = torch.tensor([[0] * 233 + [1] * 187, [-1] * 50 + [2] * 370])
    return CoefficientDynamics(d.query, d.key, d.evolution, support=Support(segments=segments))


MIXERS = [decaying, shared, delta, waves, bursts, forgetting_and_delta, packed]


def summaries():
    return (
        reductions.RowMass(),
        reductions.ColumnMass(),
        reductions.MeanDistance(),
        reductions.MassByLag(),
        reductions.Heatmap(9),
    )


@pytest.mark.parametrize(
    ("skip", "dtype"), [(1e-9, torch.float64), (1e-4, torch.float64), (1e-4, torch.float32), (0.05, torch.float32)]
)
@pytest.mark.parametrize("mixer", MIXERS)
def test_certificates_hold(mixer, dtype, skip, entries):
    d, _, exact = case(mixer, dtype)
    found = reduced(d, *summaries(), skip=skip)
    computed, entries[0] = entries[0], 0
    reduced(d, *summaries())
    assert all(isinstance(x, Bounded) for x in found)
    noise = 1e-12 if dtype == torch.float64 else 1e-6
    for n, ((value, missing), want) in enumerate(zip(found, exact, strict=True)):
        known = ~torch.isnan(want)
        off = (value - want).abs()[known]
        rounding = noise * (TIME if n == 2 else float(want[known].max()))
        assert (off <= missing[known] + rounding).all()
        assert (missing[known] >= 0).all()
        if n != 2:
            assert (value <= want + rounding)[known].all()  # masses are only ever left out
    row, missing = found[0]
    if skip <= 1e-4:
        assert (missing <= skip * TIME * row + 1e-30).all()  # what was asked for, entry by entry
        if mixer not in (bursts, waves):
            assert missing.sum() > 0 or skip == 1e-9
    assert computed <= entries[0] * {1e-9: 1.0, 1e-4: 0.99, 0.05: 0.7}[skip] or mixer in (bursts, waves)


@cache
def case(mixer, dtype):
    """A mixer, its coefficients and what the summaries of all of them are."""
    torch.manual_seed(0)
    d = mixer(dtype)
    alpha = oracle_coefficients(d)
    return d, alpha, _exact(alpha)


def _exact(alpha):
    size = alpha.abs()
    place = torch.arange(TIME)
    lag = (place[:, None] - place).clamp(min=0)
    by_lag = torch.stack([size.diagonal(-n, -2, -1).sum(-1) for n in range(TIME)], -1)
    edges = [p * TIME // 9 for p in range(10)]
    member = torch.stack([((place >= a) & (place < b)).double() / (b - a) for a, b in pairwise(edges)])
    distance = (size * lag).sum(-1) / size.sum(-1)
    return [
        size.sum(-1).mT, size.sum(-2).mT, distance.mT, by_lag, member @ size @ member.mT
    ]  # fmt: skip


@pytest.mark.parametrize("mixer", MIXERS)
def test_top_k_leaves_out_only_what_cannot_matter(mixer, entries):
    d, alpha, _ = case(mixer, torch.float64)
    values, indices = d.operator().top_k(6)
    computed, entries[0] = entries[0], 0
    reduced(d, reductions.TopK(6), reductions.RowMass())
    want = alpha.abs().topk(6, -1).values.transpose(1, 2)
    filled = indices >= 0
    assert (values.abs() - torch.where(filled, want, 0)).abs().max() <= 1e-12 * want.max()
    assert (want[~filled] == 0).all()
    if mixer not in (bursts, waves):
        assert computed < 0.8 * entries[0]


def test_nothing_is_left_out_of_what_does_not_decay(entries):
    torch.manual_seed(2)
    q, k = vectors(2, 3)
    d = CoefficientDynamics(q, k, Diagonal(decay=torch.full((1, 1, 2, 3), 1.001, dtype=torch.float64)))
    ((row, missing),) = reduced(d, reductions.RowMass(), skip=1e-6)
    computed, entries[0] = entries[0], 0
    reduced(d, reductions.RowMass())
    assert computed == entries[0] and (missing == 0).all() and torch.isfinite(row).all()


def test_a_readout_without_bounds_is_computed_in_full():
    torch.manual_seed(3)
    q, k = vectors(2, 3)
    d = CoefficientDynamics(q, k, readout=Exp())
    for found, want in zip(reduced(d, *summaries(), skip=0.1), reduced(d, *summaries()), strict=True):
        assert torch.equal(found.value, want) and (found.missing == 0).all()


@pytest.mark.parametrize("bad", [-0.1, 1.0, float("nan")])
def test_bad_shares_are_refused(bad):
    with pytest.raises(InputError, match="skip"):
        reduced(decaying(), reductions.RowMass(), skip=bad)
