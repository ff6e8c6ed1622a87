"""Sums alone: no entry of |alpha| is kept, and far from the diagonal none is formed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta, Diagonal, Scalar
from mixerlens.operator import reductions
from mixerlens.operator.oracle import oracle_coefficients
from mixerlens.operator.streams import Stream, ThinTile, summed, walk
from mixerlens.operator.streams.thin import Fan
from mixerlens.readout import RealPart
from mixerlens.support import Support

from ..evolution.case import EvolutionCase
from .test_streams import KINDS, SEGMENTS, TIME, reduced

LONG = 16384
MOST = 32 * 2**20  # bytes


def sums():
    return (reductions.RowMass(), reductions.ColumnMass(), reductions.MeanDistance())


def dense(alpha: torch.Tensor) -> list[torch.Tensor]:
    size, place = alpha.abs(), torch.arange(alpha.shape[-1])
    away = (place[:, None] - place).abs()
    return [x.transpose(1, 2) for x in (size.sum(-1), size.sum(-2), (size * away).sum(-1) / size.sum(-1))]


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks, and many pieces of each square on both sides."""
    monkeypatch.setattr(walk, "BLOCK", 64)
    monkeypatch.setattr(walk, "LOGS", 1)
    monkeypatch.setattr(walk, "ROWS", 16)
    monkeypatch.setattr(summed, "PIECE", 2**12)
    monkeypatch.setattr(summed, "LONGEST", 24)
    monkeypatch.setattr(summed, "TERMS", 16)
    monkeypatch.setattr(summed, "TOGETHER", 2**13)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", KINDS)
def test_every_kind(name):
    case: EvolutionCase = KINDS[name]()
    p = case.leaves(TIME)
    mass, *others = dense(case.alpha(case.scores(p), "identity"))
    found = reduced(case.dynamics(p), *sums())
    # a row that has cancelled to a small part of the others' mass divides by what rounding has left of it
    weights = (torch.ones_like(mass), torch.ones_like(mass), mass / mass.max())
    for got, want, weight in zip(found, (mass, *others), weights, strict=True):
        known = ~torch.isnan(want)
        assert ((got - want).abs() * weight)[known].max() <= 1e-12 * want[known].max()


def decaying(dtype, batch=2, heads=2):
    """The slowest two of four dimensions differ from head to head."""
    torch.manual_seed(0)
    q, k = (torch.randn(batch, 420, 1, 4, dtype=dtype) for _ in range(2))
    rate = -torch.tensor([[0.5, 1, 2, 4], [3, 4, 1, 2]], dtype=torch.float64)[:heads]
    step = 0.2 * torch.rand(batch, 420, heads, dtype=torch.float64)
    return CoefficientDynamics(q, k, Diagonal(rate=rate, step_size=step))


def packed(dtype):
    segments = torch.tensor([[0] * 233 + [1] * 187, [-1] * 50 + [2] * 370])
    return replace(decaying(dtype), support=Support(segments=segments))


def halved(dtype):
    return replace(decaying(dtype), readout=RealPart(0.5))


def burst(dtype):
    """Signs that alternate, and one step that lets the second slowest dimension grow: at the first token of a block, so
    that it is small in this block and large again before it."""
    d = decaying(dtype)
    assert isinstance(d.evolution, Diagonal) and d.evolution.rate is not None
    decay = -torch.exp(0.15 * d.evolution.rate).repeat(1, 420, 1, 1)
    decay[:, 128, [0, 1], [1, 3]] *= torch.e**12
    return replace(d, evolution=Diagonal(decay=decay))


def added(dtype):
    return CoefficientSum((decaying(dtype), replace(decaying(dtype), readout=RealPart(2.0))), (0.5, -2.0))


@pytest.fixture
def ranks(monkeypatch):
    """The ranks of the tiles whose entries were not formed."""
    seen: list[int] = []
    thin = Stream._thin

    def noted(self, *args):
        for tile in thin(self, *args):
            if isinstance(tile, ThinTile):
                seen.append(tile.left.shape[-1])
            yield tile

    monkeypatch.setattr(Stream, "_thin", noted)
    return seen


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("skip", [1e-9, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mixer", [decaying, packed, halved, added, burst])
def test_certificates_of_thin_tiles(mixer, dtype, skip, ranks):
    """What is left out may add or take: the bound is on both sides, and top-k beside them stays exact."""
    d = mixer(dtype)
    alpha = oracle_coefficients(d)
    *found, (values, indices) = reduced(d, *sums(), reductions.TopK(5), skip=skip)
    if mixer is not packed:
        assert set(ranks) == {1, 2}
    elif skip == 1e-4:  # segments of 200 tokens decay that far, but no further
        assert ranks
    noise = 1e-12 if dtype == torch.float64 else 1e-6
    for n, ((value, missing), want) in enumerate(zip(found, dense(alpha), strict=True)):
        known = ~torch.isnan(want)
        rounding = noise * (alpha.shape[-1] if n == 2 else float(want[known].max()))
        assert ((value - want).abs() <= missing + rounding)[known].all()
        assert missing[known].sum() > 0
    row, missing = found[0]
    assert (missing <= skip * alpha.shape[-1] * row + 1e-30).all()
    largest = alpha.abs().topk(5, -1).values.transpose(1, 2)
    assert (values.abs() - torch.where(indices >= 0, largest, 0)).abs().max() <= noise * largest.max()
    assert (largest[indices < 0] == 0).all()


@pytest.mark.parametrize("dim", [1, 2])
def test_fans(dim):
    """Against all products: vectors along the axes, the same direction many times, both signs, zeros."""
    torch.manual_seed(1)
    x, z = (torch.randn(3, 2, n, dim, dtype=torch.float64) for n in (90, 70))
    for y in (x, z):
        y[:, :, :30] = y[:, :, :30].round()
        y[:, :, 30:40, 0], y[:, :, 40:50, -1], y[:, :, 50:53] = 0.0, -0.0, 0.0
        y[:, :, 53:60] = -y[:, :, :7]
    weights = torch.arange(90, dtype=torch.float64)
    size = (z @ x.mT).abs()
    for got, want in zip(Fan.of(x, weights).met(z), (size.sum(-1), (size * weights).sum(-1)), strict=True):
        assert (got - want).abs().max() <= 1e-13 * want.max()
    (got,) = Fan.of(x).met(z)
    assert (got - size.sum(-1)).abs().max() <= 1e-13 * size.sum(-1).max()


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation has returned."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [x.untyped_storage().nbytes() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.found = max([self.found, *sizes])
        return out


def channel(time):
    q, k = (torch.randn(1, time, 1, 16) for _ in range(2))
    rate, step = -torch.arange(1.0, 17)[None], 0.01 * torch.rand(1, time, 1)
    return CoefficientDynamics(q, k, Diagonal(rate=rate, step_size=step), scaling=step)


def scalar(time):
    q, k = (torch.randn(1, time, 1, 32) for _ in range(2))
    return CoefficientDynamics(q, k, Scalar(log_decay=-0.02 * torch.rand(1, time, 2)))


def delta(time):
    q, k = (torch.nn.functional.normalize(torch.randn(1, time, 1, 32), dim=-1) for _ in range(2))
    return CoefficientDynamics(q, k, Delta(k, torch.rand(1, time, 1), log_decay=-0.1 * torch.rand(1, time, 1)))


@pytest.mark.parametrize("mixer", [channel, scalar, delta])
def test_no_temporary_exceeds_32_mib(mixer):
    torch.manual_seed(2)
    with Largest() as largest:
        reduced(mixer(LONG), *sums(), skip=1e-9)
        d = mixer(LONG // 4)
        reduced(d, *sums(), reductions.MassByLag(), reductions.Heatmap(64), reductions.TopK(4))
    assert 2**20 < largest.found <= MOST


def test_a_dense_matrix_would_be_seen():
    with Largest() as largest:
        channel(3072).operator().to_dense()
    assert largest.found > MOST


def test_segments_that_end_within_a_square(small_blocks):
    case = KINDS["TestDeltaGated"]()
    p = case.leaves(TIME)
    alpha = case.alpha(case.scores(p), "identity", segments=SEGMENTS)
    d = case.dynamics(p, support=Support(segments=SEGMENTS))
    for got, want in zip(reduced(d, *sums()), dense(alpha), strict=True):
        known = ~torch.isnan(want)
        assert (got - want)[known].abs().max() <= 1e-12 * TIME


@pytest.mark.parametrize(
    "shape", [(2, 300, 3, 5), (1, 300, 3, 5), (300, 3, 5), (1, 300, 1, 5), (2, 300, 3, 1), (1, 1, 3, 5)], ids=str
)
def test_logarithms_that_sequences_heads_tokens_or_dimensions_share(shape):
    """The sums of the recurrence written out, on every unit vector; torch warns of a buffer of another shape."""
    torch.manual_seed(0)
    q, k, log_decay = torch.randn(2, 300, 3, 5), torch.randn(2, 300, 3, 5), -0.05 * torch.rand(shape)
    decay = log_decay.double().exp().expand(2, 300, 3, 5)
    state, rows = torch.zeros(2, 3, 5, 300, dtype=torch.float64), []
    for t in range(300):
        state = decay[:, t, :, :, None] * state
        state[..., t] = k[:, t]
        rows.append((q[:, t, :, None].double() @ state)[:, :, 0])
    evolutions = [Diagonal(log_decay=log_decay)]
    if shape == (2, 300, 3, 1):
        evolutions.append(Diagonal(rate=torch.full((3, 1), -1.0), step_size=-log_decay[..., 0]))
    for evolution in evolutions:
        found = CoefficientDynamics(q, k, evolution).operator().reduce(*sums())
        for got, want in zip(found, dense(torch.stack(rows, 2)), strict=True):
            assert (got - want).abs().max() <= 1e-6 * want.max()
