"""Streamed reductions against the dense coefficients of the plain recurrence."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.errors import InputError
from mixerlens.normalizer import NoNormalizer, RowSum
from mixerlens.support import Support

from ..evolution import plain
from ..evolution import test_kinds as kinds
from ..evolution.drawn import BATCH, HEADS

TIME = 150
SEGMENTS = torch.tensor([[-1] * 4 + [0] * 66 + [1] * 80, [3] * 100 + [9] * 45 + [-1] * 5])
MIXERS = {
    "decayed": (kinds.TestScalarLogDecay, "identity", {}),
    "signed": (kinds.TestDeltaGated, "identity", {}),
    "complex": (kinds.TestDiagonalComplex, "identity", {}),
    "real part": (kinds.TestDiagonalComplex, "real", {}),
    "rotary softmax": (kinds.TestRotationHalf, "exp", {"row_sum": True}),
    "windowed": (kinds.TestUnipotent, "exp", {"row_sum": True, "window": 7}),
    "packed": (kinds.TestDiagonalDecay, "identity", {"segments": SEGMENTS}),
    "packed softmax": (kinds.TestIdentity, "exp", {"row_sum": True, "segments": SEGMENTS}),
    "bidirectional": (kinds.TestIdentity, "exp", {"row_sum": True, "causal": False}),
    "bidirectional window": (kinds.TestIdentity, "exp", {"row_sum": True, "causal": False, "window": 5}),
    "rectified": (kinds.TestDense, "relu", {}),
}


@pytest.fixture(scope="module", params=MIXERS)
def mixer(request):
    """An operator, its dense coefficients by the plain recurrence, and whether it is causal."""
    kind, readout, options = MIXERS[request.param]
    case, where = kind(), {n: options[n] for n in ("causal", "window", "segments") if n in options}
    p = case.leaves(TIME)
    causal = options.get("causal", True)
    how = RowSum() if "row_sum" in options else NoNormalizer()
    operator = case.dynamics(p, readout, normalizer=how, support=Support(**where)).operator()
    return (
        operator,
        case.alpha(case.scores(p, causal), readout, **options),
        plain.pairs(TIME, causal, options.get("window"), options.get("segments")).expand(BATCH, HEADS, -1, -1),
    )


def lags():
    place = torch.arange(TIME)
    return (place[:, None] - place[None, :]).abs()


def test_masses(mixer):
    op, alpha, _ = mixer
    size = alpha.abs()
    assert plain.error(op.row_mass(), size.sum(-1).transpose(1, 2)) <= 1e-12
    assert plain.error(op.column_mass(), size.sum(-2).transpose(1, 2)) <= 1e-12
    assert plain.error(op.T.row_mass(), size.sum(-2).transpose(1, 2)) <= 1e-12


def test_mean_distance(mixer):
    """NaN exactly where a row has no mass."""
    op, alpha, _ = mixer
    size = alpha.abs()
    want = ((size * lags()).sum(-1) / size.sum(-1)).transpose(1, 2)
    got = op.mean_distance()
    empty = (size.sum(-1) == 0).transpose(1, 2)
    assert torch.equal(torch.isnan(got), empty)
    assert (got - want)[~empty].abs().max() <= 1e-12 * TIME


def test_mass_by_lag(mixer):
    op, alpha, _ = mixer
    want = torch.stack([alpha.abs().masked_fill(lags() != lag, 0).sum((-1, -2)) for lag in range(TIME)], dim=-1)
    assert plain.error(op.mass_by_lag(), want) <= 1e-12


def test_top_k(mixer):
    """The largest first; index -1 and value 0 where a row's support is smaller than k."""
    op, alpha, seen = mixer
    k = 9
    values, indices = op.top_k(k)
    assert values.shape == indices.shape == (BATCH, TIME, HEADS, k)
    values, indices = values.transpose(1, 2), indices.transpose(1, 2)
    count = seen.sum(-1, keepdim=True)
    filled = torch.arange(k) < count
    assert torch.equal(indices >= 0, filled)
    assert torch.equal(indices == -1, ~filled)
    assert (values[~filled] == 0).all()
    size = torch.where(seen, alpha.abs(), -1.0)
    want = size.topk(k, dim=-1).values.clamp(min=0)
    bar = 1e-12 * alpha.abs().max()
    assert (values.abs() - want).abs().max() <= bar
    entries = alpha.gather(-1, indices.clamp(min=0))
    assert ((values - entries).abs()[filled] <= bar).all()
    assert seen.gather(-1, indices.clamp(min=0))[filled].all()
    chosen = indices.sort(-1).values
    assert ((chosen[..., 1:] != chosen[..., :-1]) | (chosen[..., 1:] < 0)).all()  # no column twice


@pytest.mark.parametrize(("pixels", "signed"), [(1, True), (10, False), (64, True), (TIME, False), (2 * TIME, True)])
def test_heatmap(mixer, signed, pixels):
    """Means over cells of neighbouring tokens; one token a cell at most where there are more cells than tokens."""
    op, alpha, _ = mixer
    want = torch.zeros(BATCH, HEADS, pixels, pixels, dtype=alpha.dtype if signed else torch.float64)
    entries = alpha if signed else alpha.abs()
    edges = [(p * TIME // pixels, max((p + 1) * TIME // pixels, p * TIME // pixels + 1)) for p in range(pixels)]
    if pixels <= 64:
        for row, (top, bottom) in enumerate(edges):
            for column, (left, right) in enumerate(edges):
                want[:, :, row, column] = entries[:, :, top:bottom, left:right].mean((-1, -2))
    else:
        first = [a for a, _ in edges]
        want = entries[:, :, first][..., first]
    got = op.heatmap(pixels, signed=signed)
    assert got.dtype == want.dtype
    assert plain.error(got, want) <= 1e-12


def test_the_masses_are_differentiable():
    case = kinds.TestDeltaGated()
    p = {n: x.requires_grad_() for n, x in case.leaves(70).items() if n not in ("v", "w")}
    op, alpha = case.dynamics(p).operator(), case.alpha(case.scores(p)).abs()
    weight = torch.linspace(-1, 1, 70, dtype=torch.float64)
    for got, want in [
        (op.row_mass(), alpha.sum(-1).transpose(1, 2)),
        (op.column_mass(), alpha.sum(-2).transpose(1, 2)),
        (op.mean_distance(), ((alpha * lags()[:70, :70]).sum(-1) / alpha.sum(-1)).transpose(1, 2)),
    ]:
        g, h = (
            torch.autograd.grad((x * weight[:, None]).sum(), list(p.values()), retain_graph=True) for x in (got, want)
        )
        for name, a, b in zip(p, g, h, strict=True):
            assert (a - b).abs().max() <= 1e-11 * b.abs().max(), name


@pytest.mark.parametrize("bad", [0, -1])
def test_empty_requests_are_refused(bad):
    case = kinds.TestIdentity()
    op = case.dynamics(case.leaves(5)).operator()
    with pytest.raises(InputError):
        op.top_k(bad)
    with pytest.raises(InputError):
        op.heatmap(bad)
    for position in (5, -6, math.inf):
        with pytest.raises((InputError, OverflowError, TypeError)):
            op.row(position)
