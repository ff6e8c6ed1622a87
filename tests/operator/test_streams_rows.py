"""Blocks of whole rows: nonlinear readouts and row sums, many blocks, every support, against the plain recurrence."""

from __future__ import annotations

import pytest
import torch

from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.normalizer import NoNormalizer, RowSum, RowSumSink
from mixerlens.operator import streams
from mixerlens.operator.oracle import oracle_coefficients
from mixerlens.operator.streams import rows, walk
from mixerlens.readout import Exp, Softcap
from mixerlens.support import Support

from ..evolution import test_kinds as kinds
from .test_streams import SEGMENTS, TIME, agree, reduced, summaries

SUPPORTS = {
    "causal": {},
    "window": {"window": 70},
    "segments": {"segments": SEGMENTS},
    "split segments": {"segments": (torch.arange(TIME) % 3)[None]},
    "bidirectional": {"causal": False},
    "bidirectional window": {"causal": False, "window": 40},
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", 32)
    monkeypatch.setattr(rows, "LEAST", 2**18)
    monkeypatch.setattr(walk, "TILE", 2**14)


# every support where rows are summed and where they are not; what evolves has causal supports in runs only
CASES = [
    ("TestIdentity", readout, support)
    for readout, supports in {
        "exp": SUPPORTS, "softcap": ("segments", "bidirectional"), "relu": SUPPORTS, "polynomial": ("window",),
    }.items()
    for support in supports
] + [
    (name, readout, support)
    for name in ("TestRotationHalf", "TestDeltaGated")
    for readout, support in (("exp", "causal"), ("exp", "segments"), ("softcap", "window"), ("relu", "causal"),
                             ("polynomial", "segments"))
]  # fmt: skip


@pytest.mark.parametrize(("name", "readout", "support"), CASES)
def test_nonlinear_readouts(name, readout, support):
    case, where = getattr(kinds, name)(), SUPPORTS[support]
    causal = where.get("causal", True)
    p = case.leaves(TIME)
    summed = readout in ("exp", "softcap")
    normalizer = RowSum() if summed else NoNormalizer()
    d = case.dynamics(p, readout, normalizer=normalizer, support=Support(**where))
    assert not streams.fits(d) and streams.rows_fit(d)
    alpha = case.alpha(case.scores(p, causal), readout, **where, **({"row_sum": True} if summed else {}))
    agree(reduced(d, *summaries()), alpha, 1e-12)


@pytest.mark.parametrize("readout", [Exp(), Softcap(2.0)])
def test_single_precision_with_groups_and_a_sink(readout):
    torch.manual_seed(0)
    q, k = torch.randn(2, TIME, 6, 8), torch.randn(2, TIME, 2, 8)
    sink = torch.linspace(-1, 2, 6)
    d = CoefficientDynamics(q, k, readout=readout, normalizer=RowSumSink(sink), support=Support(segments=SEGMENTS))
    agree(reduced(d, *summaries()), oracle_coefficients(d), 1e-6)


def test_scores_far_beyond_the_range_of_exp():
    torch.manual_seed(1)
    q, k = (60 * torch.randn(1, TIME, 2, 4, dtype=torch.float64) for _ in range(2))
    d = CoefficientDynamics(q, k, readout=Exp(), normalizer=RowSum())
    row, column, *_ = reduced(d, *summaries())
    assert (row - 1).abs().max() <= 1e-12
    alpha = oracle_coefficients(d)
    assert (column - alpha.sum(-2).mT).abs().max() <= 1e-9 * column.max()  # scores of 1e4 are rounded to 1e-12


def test_differences_of_attention():
    torch.manual_seed(2)
    q, k = (torch.randn(2, TIME, 2, 5, dtype=torch.float64) for _ in range(2))
    one, other = (CoefficientDynamics(a, b, readout=Exp(), normalizer=RowSum()) for a, b in ((q, k), (k, q)))
    linear = CoefficientDynamics(q, k, support=Support(window=30))
    d = CoefficientSum((one, other, linear), (1.0, -0.4, torch.rand(1, TIME, 2, dtype=torch.float64)))
    agree(reduced(d, *summaries()), oracle_coefficients(d), 1e-12)


def test_a_normalised_linear_readout_with_a_window():
    case = kinds.TestScalarLogDecay()
    p = case.leaves(TIME)
    p = p | {"query": p["query"].abs(), "key": p["key"].abs()}
    d = case.dynamics(p, normalizer=RowSum(), support=Support(window=25))
    alpha = case.alpha(case.scores(p), "identity", row_sum=True, window=25)
    agree(reduced(d, *summaries()), alpha, 1e-9)
