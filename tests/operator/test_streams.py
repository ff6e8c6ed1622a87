"""Streaming tiles against the dense coefficients of the plain recurrence: every kind, many blocks, every border."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta, Diagonal, Identity, Scalar
from mixerlens.normalizer import NoNormalizer, PerToken, RowSum
from mixerlens.operator import reductions, streams
from mixerlens.operator.oracle import oracle_coefficients
from mixerlens.operator.streams import walk
from mixerlens.readout import RealPart
from mixerlens.subnormals import subnormals_as_zero
from mixerlens.support import Support

from ..evolution import plain, test_blocks, test_kinds, test_rank_one
from ..evolution.case import EvolutionCase, PositiveCase

TIME = 211
KINDS = {
    name: case
    for module in (test_kinds, test_blocks, test_rank_one)
    for name, case in vars(module).items()
    if isinstance(case, type) and issubclass(case, EvolutionCase) and case not in (EvolutionCase, PositiveCase)
}
SEGMENTS = torch.tensor([[-1] * 4 + [0] * 90 + [1] * 117, [3] * 140 + [9] * 66 + [-1] * 5])
SUPPORTS = {
    "causal": {},
    "window": {"window": 70},
    "segments": {"segments": SEGMENTS},
    "window in segments": {"window": 33, "segments": SEGMENTS},
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Many blocks and many pieces of each at a length that the plain recurrence can afford."""
    monkeypatch.setattr(walk, "BLOCK", 64)
    monkeypatch.setattr(walk, "LOGS", 1)
    monkeypatch.setattr(walk, "ROWS", 16)
    monkeypatch.setattr(walk, "TILE", 2**14)


def reduced(d, *wanted, **how) -> list[Any]:
    return d.operator().reduce(*wanted, **how)


def summaries(pixels=7):
    return (
        reductions.RowMass(),
        reductions.ColumnMass(),
        reductions.MeanDistance(),
        reductions.MassByLag(),
        reductions.Heatmap(pixels),
        reductions.Heatmap(pixels, signed=True),
        reductions.TopK(5),
    )


def dense(alpha: torch.Tensor, pixels=7) -> list:
    """What ``summaries`` say, from the whole matrix."""
    size, time = alpha.abs(), alpha.shape[-1]
    away = torch.arange(time)[:, None] - torch.arange(time)
    edges = [p * time // pixels for p in range(pixels + 1)]
    cells = [
        torch.stack(
            [
                torch.stack([x[..., a:b, c:e].mean((-1, -2)) for c, e in pairwise(edges)], -1)
                for a, b in pairwise(edges)
            ],
            -2,
        )
        for x in (size, alpha)
    ]
    return [
        size.sum(-1).transpose(1, 2),
        size.sum(-2).transpose(1, 2),
        ((size * away.abs()).sum(-1) / size.sum(-1)).transpose(1, 2),
        torch.stack(
            [torch.stack([size.diagonal(n, -2, -1).sum(-1) for n in {lag, -lag}]).sum(0) for lag in range(time)], -1
        ),
        *cells,
        size.topk(5, -1).values.transpose(1, 2),
    ]


def agree(found: list, alpha: torch.Tensor, bar: float) -> None:
    *others, (values, indices) = found
    *wanted, largest = dense(alpha)
    mass = wanted[0]
    for n, (got, want) in enumerate(zip(others, wanted, strict=True)):
        known = ~torch.isnan(want)
        assert torch.equal(torch.isnan(got), ~known)
        # a row that has cancelled to a small part of the others' mass divides by what rounding has left of it
        weight = mass / mass.max() if n == 2 else torch.ones_like(want.abs())
        assert ((got - want).abs() * weight)[known].max() <= bar * want[known].abs().max()
    filled = indices >= 0
    assert (values.abs() - torch.where(filled, largest, 0)).abs().max() <= bar * largest.max()
    assert (largest[~filled] == 0).all()  # only where the support is smaller
    entries = alpha.transpose(1, 2).gather(-1, indices.clamp(min=0))
    assert (values - entries)[filled].abs().max() <= bar * largest.max()


# in float32 the kinds whose generators differ; the real part is taken of those that are complex
SINGLE = [
    "TestScalarLogDecay", "TestDiagonalDecay", "TestDiagonalRateAndStep", "TestDiagonalComplex", "TestRotationHalf",
    "TestDeltaGated", "TestUnipotent", "TestDenseComplex", "TestRankOneComplex", "TestMicroSteps",
]  # fmt: skip


@pytest.mark.parametrize(("name", "precision"), [(n, "double") for n in KINDS] + [(n, "single") for n in SINGLE])
def test_every_kind(name, precision):
    case = KINDS[name]()
    p = case.leaves(TIME, precision)
    readout = "real" if case.complex_ and precision == "single" else "identity"
    d = case.dynamics(p, readout)
    assert streams.fits(d)
    bar = 1e-12 if precision == "double" else max(1e-6, case.float32_bar)
    agree(reduced(d, *summaries()), case.alpha(case.scores(p), readout), bar)


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("name", ["TestScalarLogDecay", "TestDiagonalRateAndStep", "TestDeltaGated", "TestIdentity"])
def test_borders(name, support):
    case, where = KINDS[name](), SUPPORTS[support]
    p = case.leaves(TIME)
    eta = torch.linspace(0.5, 2, TIME, dtype=torch.float64)[None, :, None]
    d = case.dynamics(p, support=Support(**where), normalizer=PerToken(eta))
    assert streams.fits(d)
    agree(reduced(d, *summaries()), case.alpha(case.scores(p), "identity", eta=eta, **where), 1e-12)


def shared(decay, time=TIME, heads=6, groups=2, dtype=torch.float64, **options):
    """Heads that share queries and keys group by group."""
    torch.manual_seed(3)
    q, k = (torch.randn(2, time, groups, 5, dtype=dtype) for _ in range(2))
    b = torch.rand(2, time, heads, dtype=dtype) + 0.5
    return CoefficientDynamics(q, k, decay(time, heads), scaling=b, **options)


DECAYS = {
    "mild": lambda t, h: Scalar(log_decay=-0.05 * torch.rand(2, t, h, dtype=torch.float64)),
    "strong": lambda t, h: Scalar(log_decay=-5 * torch.rand(2, t, h, dtype=torch.float64)),
    "both signs": lambda t, h: Scalar(decay=2 * torch.rand(2, t, h, dtype=torch.float64) - 1),
    "zeros": lambda t, h: Scalar(decay=(torch.rand(2, t, h) > 0.1).double()),
    "growing": lambda t, h: Scalar(decay=torch.full((1, 1, h), 1.02, dtype=torch.float64)),
    "grows, then shrinks": lambda t, h: Scalar(
        decay=torch.where(torch.arange(t) < t // 2, 3.0, 1 / 3.0).double()[None, :, None].expand(1, t, h)
    ),
    "complex": lambda t, h: Scalar(
        decay=torch.polar(torch.rand(2, t, h).double() / 2 + 0.5, torch.randn(2, t, h).double())
    ),
    "none": lambda t, h: Identity(),
}


@pytest.mark.parametrize(
    ("decay", "dtype"),
    # growth to 1e71 is no float32
    [(name, torch.float64) for name in DECAYS]
    + [(n, torch.float32) for n in ("strong", "zeros", "growing", "complex")],
)
def test_shared_products(decay, dtype):
    d = shared(DECAYS[decay], dtype=dtype)
    assert walk.Gram.fits(d)
    bar = 1e-12 if dtype == torch.float64 else 1e-6
    agree(reduced(d, *summaries()), oracle_coefficients(d), bar)


def test_shared_products_with_a_border_and_a_row_sum():
    options = {"support": Support(segments=SEGMENTS), "normalizer": RowSum()}
    d = shared(DECAYS["mild"], **options)
    d = CoefficientDynamics(d.query.abs(), d.key.abs(), d.evolution, scaling=d.scaling, **options)
    assert walk.Gram.fits(d)
    agree(reduced(d, *summaries()), oracle_coefficients(d), 1e-10)


@pytest.mark.parametrize(
    "log",
    [-0.01, -1.0, -30.0, 0.4, -torch.inf],
    ids=["mild", "chunks of sixteen", "out of range", "growing", "closed"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decays_given_by_logarithms(log, dtype):
    torch.manual_seed(4)
    q, k = (torch.rand(1, TIME, 1, 3, dtype=dtype) for _ in range(2))  # no score cancels: distances are well posed
    g = log * torch.rand(1, TIME, 2, 3, dtype=torch.float64)
    if log == -torch.inf:
        g = torch.where(torch.rand(1, TIME, 2, 3) < 0.05, log, -0.1).double()
    d = CoefficientDynamics(q, k, Diagonal(log_decay=g))
    agree(reduced(d, *summaries()), oracle_coefficients(d), 1e-12 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_shrinks_and_then_grows_is_not_lost(dtype):
    """A product of 1e-42 lies left of a border and one of 1e42 right of it: float32 has neither, the entry is 1."""
    torch.manual_seed(5)
    time = 256
    q, k = (torch.rand(1, time, 1, 2, dtype=dtype) + 0.5 for _ in range(2))
    a = torch.full((1, time, 1, 2), 1.0, dtype=torch.float64)
    a[:, 48:128], a[:, 128:208] = 0.3, 1 / 0.3
    written = (torch.arange(time) < 48).to(dtype)[None, :, None]  # nothing else to grow
    d = CoefficientDynamics(q, k, Diagonal(decay=a), scaling=written)
    alpha = oracle_coefficients(d)
    assert alpha[0, 0, 210:, :40].min() > 0.1 and alpha.max() < 10
    wanted = (reductions.RowMass(), reductions.ColumnMass(), reductions.Heatmap(16))
    want = alpha.sum(-1).mT, alpha.sum(-2).mT, alpha.unflatten(-1, (16, 16)).unflatten(-3, (16, 16)).mean((-1, -3))
    for got, exact in zip(reduced(d, *wanted), want, strict=True):
        assert (got - exact).abs().max() <= (1e-12 if dtype == torch.float64 else 1e-6) * exact.max()


@pytest.mark.parametrize("readout", [None, RealPart(2.0)], ids=["complex", "real part"])
def test_sums_of_mixers(readout):
    torch.manual_seed(6)
    q, k = (torch.randn(2, TIME, 2, 4, dtype=torch.float64) for _ in range(2))
    w = torch.nn.functional.normalize(torch.randn(2, TIME, 2, 4, dtype=torch.float64), dim=-1)
    beta = torch.rand(2, TIME, 2, dtype=torch.float64)
    decay = torch.polar(0.5 + torch.rand(2, TIME, 2, 4).double() / 2, torch.randn(2, TIME, 2, 4).double())
    how = {} if readout is None else {"readout": readout}
    parts = (CoefficientDynamics(q, k, Delta(w, beta)), CoefficientDynamics(k, q, Diagonal(decay=decay), **how))
    d = CoefficientSum(parts, (0.7, -torch.rand(1, TIME, 2, dtype=torch.float64)))
    agree(reduced(d, *summaries()), oracle_coefficients(d), 1e-12)


@pytest.mark.parametrize("time", [1, 2, 31, 64, 65, 200])
def test_lengths(time):
    for case in (KINDS["TestDiagonalRateAndStep"](), KINDS["TestDeltaGated"]()):
        p = case.leaves(max(time, 6))
        d = case.dynamics(p).select_tokens(0, time)
        wanted = (reductions.RowMass(), reductions.MeanDistance(), reductions.MassByLag(), reductions.TopK(3))
        row, distance, lag, (values, _) = reduced(d, *wanted)
        size = case.alpha(case.scores(p))[..., :time, :time].abs()
        assert (row - size.sum(-1).transpose(1, 2)).abs().max() <= 1e-12 * size.max()
        lags = (torch.arange(time)[:, None] - torch.arange(time)).abs()
        want = ((size * lags).sum(-1) / size.sum(-1)).transpose(1, 2)
        assert (distance - want).abs().max() <= 1e-12 * max(1, time)
        assert lag.shape[-1] == time and abs(float(lag.sum() - size.sum())) <= 1e-12 * float(size.sum())
        assert (values[..., 0].abs() - size.amax(-1).transpose(1, 2)).abs().max() <= 1e-12 * size.max()


def test_subnormals_are_flushed_inside_only():
    small = torch.full((1,), 1e-310, dtype=torch.float64)
    assert float(small * 1) != 0
    with subnormals_as_zero():
        assert float(small * 1) == 0
    assert float(small * 1) != 0


def test_progress_is_told_once_a_block_and_ends_at_one():
    case = KINDS["TestDeltaGated"]()
    told: list[float] = []
    reduced(case.dynamics(case.leaves(TIME)), reductions.RowMass(), progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and len(told) < 40


def test_normalizers_that_need_whole_rows_go_by_rows():
    case = KINDS["TestScalarLogDecay"]()
    p = case.leaves(60)
    d = case.dynamics(p, normalizer=RowSum(), support=Support(window=9))
    assert not streams.fits(d)
    assert streams.fits(case.dynamics(p, normalizer=NoNormalizer(), support=Support(window=9)))
    alpha = case.alpha(case.scores(p), row_sum=True, window=9).abs()
    assert plain.error(d.operator().row_mass(), alpha.sum(-1).transpose(1, 2)) <= 1e-9
