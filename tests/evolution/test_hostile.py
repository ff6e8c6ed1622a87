"""Decays that underflow, close, vanish, change sign or grow: forward and gradient finite and still right."""

from __future__ import annotations

import math

import pytest
import torch

from . import plain
from . import test_blocks as blocks
from . import test_kinds as kinds
from . import test_rank_one as rank_one
from .drawn import BATCH, HEADS, randn

LOG_KINDS = {
    "scalar": kinds.TestScalarLogDecay,
    "diagonal": kinds.TestDiagonalLogDecay,
    "rotation": kinds.TestRotationLogDecay,
    "delta": kinds.TestDeltaGated,
    "kimi delta": rank_one.TestKimiDelta,
    "rwkv-7": rank_one.Rwkv7,
    "micro-steps": rank_one.TestMicroSteps,
    "read before write": blocks.TestReadBeforeWrite,
    "trapezoid": blocks.TestTrapezoid,
    "fenwick": blocks.TestFenwick,
    "momentum": blocks.TestMomentum,
}


def with_decay(case):
    """The same case given decays instead of their logarithms."""

    class Decayed(case):
        def parameters(self, batch, time, heads):
            p = super().parameters(batch, time, heads)
            return p | {"a": p.pop("g").exp()}

    return Decayed


DECAY_KINDS = {
    "scalar": kinds.TestScalarDecay,
    "diagonal": kinds.TestDiagonalDecay,
    "diagonal complex": kinds.TestDiagonalComplex,
    "rotation": kinds.TestRotationDecay,
    "delta": kinds.TestDeltaDecayed,
    "rank one complex": rank_one.TestRankOneComplex,
    "kimi delta": with_decay(rank_one.TestKimiDelta),
    "micro-steps": with_decay(rank_one.TestMicroSteps),
    "read before write": with_decay(blocks.TestReadBeforeWrite),
    "trapezoid": with_decay(blocks.TestTrapezoid),
    "fenwick": with_decay(blocks.TestFenwick),
    "momentum": with_decay(blocks.TestMomentum),
}


def seldom(x, chance=0.3):
    """A tenth and more of the entries, at random, the first and a whole run of tokens among them."""
    chosen = torch.rand(x.shape) < chance
    chosen[:, 0] = True
    chosen[:, 20:23] = True
    return chosen


LOG_FILLS = {
    "-1e3 at some tokens": lambda g: torch.where(seldom(g), -1e3, g),
    "-1e5 at some tokens": lambda g: torch.where(seldom(g), -1e5, g),
    "-1e3 everywhere": lambda g: torch.full_like(g, -1e3),
    "-700 next to 0": lambda g: torch.where(seldom(g), -700.0, torch.zeros_like(g)),
    "-400 everywhere": lambda g: torch.full_like(g, -400.0),
    "slow underflow": lambda g: torch.full_like(g, -30.0),
    "closed gates": lambda g: torch.where(seldom(g), -math.inf, g),
    "all gates closed": lambda g: torch.full_like(g, -math.inf),
    "fully open": lambda g: torch.zeros_like(g),
}
DECAY_FILLS = {
    "zeros at some tokens": lambda a: torch.where(seldom(a), 0.0, a),
    "zeros everywhere": lambda a: torch.zeros_like(a),
    "minus one": lambda a: -torch.ones_like(a),
    "tiny": lambda a: torch.where(seldom(a), 1e-170, a),
    "subnormal": lambda a: torch.where(seldom(a), 1e-320, a),
    "both signs and zero": lambda a: a * torch.randint(-1, 2, a.shape),
    "growing": lambda a: a * 1.05 / a.abs(),
}


def compare(case, p, readout, *, row_sum=False):
    """The library against the plain recurrence: dense, both products, and the gradient of all three."""
    from mixerlens.normalizer import NoNormalizer, RowSum

    p = {name: x.detach().clone().requires_grad_() for name, x in p.items()}
    time = p["query"].shape[1]
    op = case.dynamics(p, readout, normalizer=RowSum() if row_sum else NoNormalizer()).operator()
    alpha = case.alpha(case.scores(p), readout, row_sum=row_sum)
    dense, y, z = op.to_dense(), op @ p["v"], op.T @ p["w"]
    assert plain.finite(alpha)
    assert plain.error(dense, alpha) <= 1e-12
    assert plain.error(y, plain.mix(alpha, p["v"])) <= 1e-12
    assert plain.error(z, plain.mix(alpha.mT, p["w"])) <= 1e-12
    pull, turned, weight = torch.randn_like(p["v"]), torch.randn_like(p["v"]), randn(BATCH, HEADS, time, time)
    found = []
    for a, b, c in [(y, z, dense), (plain.mix(alpha, p["v"]), plain.mix(alpha.mT, p["w"]), alpha)]:
        loss = (a * pull).sum() + (b * turned).sum() + (c * weight).sum()
        loss = loss.real + 0.7 * loss.imag if loss.is_complex() else loss
        found.append(torch.autograd.grad(loss, list(p.values()), allow_unused=True))
    largest = max(float(x.abs().max()) for x in found[1] if x is not None)
    for name, g, h in zip(p, *found, strict=True):
        assert (g is None) == (h is None), name
        if g is None:
            continue  # positions, which are no numbers to differentiate by
        assert plain.finite(g), name
        assert plain.finite(h), name
        assert (g - h).abs().max() <= 1e-12 * max(float(h.abs().max()), 0.1 * largest), name


def readouts(case):
    return [("identity", False), ("exp", True)] if not case.complex_ else [("identity", False), ("real", False)]


@pytest.mark.parametrize("fill", LOG_FILLS)
@pytest.mark.parametrize("kind", LOG_KINDS)
def test_log_decays(kind, fill):
    case = LOG_KINDS[kind]()
    p = case.leaves(case.evolution(case.parameters(1, 2, 1)).chunk + 5)
    p["g"] = LOG_FILLS[fill](p["g"])
    for readout, row_sum in readouts(case):
        compare(case, p, readout, row_sum=row_sum)


@pytest.mark.parametrize("fill", DECAY_FILLS)
@pytest.mark.parametrize("kind", DECAY_KINDS)
def test_decays(kind, fill):
    case = DECAY_KINDS[kind]()
    p = case.leaves(case.evolution(case.parameters(1, 2, 1)).chunk + 5)
    shape = p["query"].shape[:3]
    if kind.startswith(("diagonal", "rank one", "kimi", "read")):  # a decay a dimension
        shape = *shape, p["a"].shape[-1]
    p["a"] = DECAY_FILLS[fill](p["a"].expand(shape).clone())
    for readout, row_sum in readouts(case):
        # with decays of minus one a momentum grows as well
        if readout == "exp" and (fill == "growing" or (kind, fill) == ("momentum", "minus one")):
            continue  # the scores themselves leave what exp can hold
        compare(case, p, readout, row_sum=row_sum)


@pytest.mark.parametrize("complex_", [False, True])
def test_steep_rates(complex_):
    """Factored decays: a state that dies at once beside one that never does."""
    case = kinds.TestDiagonalComplexRateAndStep() if complex_ else kinds.TestDiagonalRateAndStep()
    p = case.leaves(37)
    rate = torch.tensor([-1e5, -1e3, -3e3, -0.0], dtype=torch.float64).expand(HEADS, -1).clone()
    p["A"] = torch.complex(rate, 7 * torch.arange(4.0, dtype=torch.float64).expand(HEADS, -1)) if complex_ else rate
    for readout, row_sum in readouts(case):
        compare(case, p, readout, row_sum=row_sum)


@pytest.mark.parametrize("gate", [-math.inf, -1e5, -1e3])
def test_a_closed_gate_in_the_time_invariant_path(gate):
    """The kernel of a constant decay uses powers: a closed gate to the power 0 is 1."""
    from mixerlens.dynamics import CoefficientDynamics
    from mixerlens.evolution import Diagonal, Scalar

    q, k, v = randn(1, 1, 2, 3), randn(1, 1, 2, 3), randn(1, 40, 2, 2)
    g = torch.tensor([gate, -0.1, 0.0], dtype=torch.float64).requires_grad_()
    y = CoefficientDynamics(q, k, Diagonal(log_decay=g), length=40).operator() @ v
    A = torch.diag(torch.tensor([gate, -0.1, 0.0], dtype=torch.float64).exp()).expand(1, 40, 2, 3, 3)
    z = plain.scores(A, q.expand(1, 40, 2, 3), k.expand(1, 40, 2, 3), torch.ones(1, 40, 2, dtype=torch.float64))
    assert plain.error(y, plain.mix(z, v)) <= 1e-12
    y.sum().backward()
    assert g.grad is not None
    assert plain.finite(g.grad)
    g = torch.tensor([gate, -0.1], dtype=torch.float64)
    y = CoefficientDynamics(q, k, Scalar(log_decay=g), length=40).operator() @ v
    A = g.exp()[:, None, None] * torch.eye(3, dtype=torch.float64)
    ones = torch.ones(1, 40, 2, dtype=torch.float64)
    z = plain.scores(A.expand(1, 40, 2, 3, 3), q.expand(1, 40, 2, 3), k.expand(1, 40, 2, 3), ones)
    assert plain.error(y, plain.mix(z, v)) <= 1e-12


@pytest.mark.parametrize("precision", ["double", "single"])
def test_scores_beyond_exp(precision):
    """Scores of several hundred: the row's largest is taken off before exp, so softmax neither overflows nor is NaN."""
    case = kinds.TestRotationHalf()
    p = case.leaves(140, precision)
    p["query"] = p["query"] * 400
    from mixerlens.normalizer import RowSum

    op = case.dynamics(p, "exp", normalizer=RowSum()).operator()
    z = case.scores(p)
    assert z.abs().max() > 720
    alpha = torch.softmax(z.masked_fill(~plain.pairs(140, True, None, None), -math.inf), -1)
    bar = (1e-12 if precision == "double" else 1e-6) * float(z.abs().max())
    assert plain.error(op.to_dense(), alpha) <= bar
    assert plain.error(op @ p["v"], plain.mix(alpha, p["v"].double())) <= bar


@pytest.mark.parametrize("where", ["query", "key", "scaling", "decay"])
def test_nan_is_refused(where):
    from mixerlens.errors import InputError

    case = kinds.TestScalarLogDecay()
    p = case.leaves(5)
    name = "g" if where == "decay" else where
    p[name] = p[name].index_fill(1, torch.tensor([3]), math.nan)
    with pytest.raises(InputError, match="NaN"):
        case.dynamics(p)
