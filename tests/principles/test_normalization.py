"""Principle 6 against float64 loops in numpy, closed forms, and the cases that grow."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, families, principles
from mixerlens.normalizer import RowSum, RowSumFloor
from mixerlens.readout import Polynomial, Sigmoid


def vectors(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_mass_of_softmax_is_one_and_of_the_rest_as_a_loop_says():
    query, key = vectors(1, 50, 2, 3), vectors(1, 50, 2, 3)
    found = principles.normalization(families.softmax_attention(query=query, key=key))
    assert torch.allclose(found.mass, torch.ones(2, 7, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(found.power, torch.zeros(2, dtype=torch.float64), atol=1e-13)
    found = principles.normalization(CoefficientDynamics(query, key))
    z = np.einsum("ihn,jhn->hij", query[0].numpy(), key[0].numpy())
    row = np.abs(np.tril(z)).sum(-1)
    assert found.lengths == (1, 2, 4, 8, 16, 32, 50)
    for k, time in enumerate(found.lengths):
        np.testing.assert_allclose(found.mass[:, k].numpy(), row[:, :time].max(-1), rtol=1e-12)
    assert (found.power > 0.3).all()


def products(matrices):
    total = np.eye(matrices.shape[-1])
    for a in matrices[1:]:
        total = a @ total
    return total


@pytest.mark.parametrize("kind", ["dense", "delta", "diagonal", "scalar", "rotation", "rank one"])
def test_the_exponent_is_that_of_the_product(kind):
    time, dim, draw = 40, 4, vectors(1, 40, 1, 4)
    gates = -torch.rand(1, time, 1, dtype=torch.float64)
    beta, second = 2 * torch.rand(1, time, 1, dtype=torch.float64), vectors(1, time, 1, dim)
    unit = draw / draw.norm(dim=-1, keepdim=True)
    eye, w = np.eye(dim), unit[0, :, 0].numpy()
    outer = np.einsum("ti,tj->tij", w, w)
    a = gates[0, :, 0].exp().numpy()[:, None, None]
    angle = torch.tensor([0.3, 1.7])
    turn = np.zeros((dim, dim))
    for p, x in enumerate(angle.tolist()):
        turn[p, p] = turn[p + 2, p + 2] = math.cos(x)
        turn[p + 2, p], turn[p, p + 2] = math.sin(x), -math.sin(x)
    full = vectors(1, time, 1, dim, dim)
    cases = {
        "dense": (evolution.Dense(full), full[0, :, 0].numpy()),
        "delta": (evolution.Delta(unit, beta, gates), a * (eye - beta[0, :, 0].numpy()[:, None, None] * outer)),
        "diagonal": (evolution.Diagonal(decay=draw), np.einsum("ti,ij->tij", draw[0, :, 0].numpy(), eye)),
        "scalar": (evolution.Scalar(log_decay=gates), a * eye),
        "rotation": (evolution.Rotation(angle, log_decay=gates), a * turn),
        "rank one": (
            evolution.DiagonalPlusRankOne(draw, second),
            eye + np.einsum("ti,tj->tij", draw[0, :, 0].numpy(), second[0, :, 0].numpy()),
        ),
    }
    kept, matrices = cases[kind]
    d = CoefficientDynamics(vectors(1, time, 1, dim), vectors(1, time, 1, dim), kept)
    found = principles.normalization(d)
    want = math.log(np.linalg.norm(products(matrices), 2)) / (time - 1)
    assert float(found.exponent) == pytest.approx(want, rel=1e-11, abs=1e-13)
    norms = [np.linalg.norm(m, 2) for m in matrices[1:]]
    radii = [np.abs(np.linalg.eigvals(m)).max() for m in matrices[1:]]
    assert float(found.norm) == pytest.approx(max(norms), rel=1e-12)
    assert float(found.radius) == pytest.approx(max(radii), rel=1e-12)
    assert found.norm_tokens == time - 1


def test_products_that_overflow_and_gates_that_close():
    time, one = 3000, torch.ones(1, 3000, 1, 2, dtype=torch.float64)
    grow = evolution.Dense(torch.tensor([[3.0, 1.0], [0.0, 2.0]], dtype=torch.float64))
    found = principles.lyapunov(CoefficientDynamics(one, one, grow))
    assert float(found) == pytest.approx(math.log(3), abs=2 / time)  # 3^2999 is no float64
    shut = evolution.Dense(torch.zeros(2, 2, dtype=torch.float64))
    assert float(principles.lyapunov(CoefficientDynamics(one, one, shut))) == -math.inf
    written = principles.normalization(CoefficientDynamics(one[:, :9], one[:, :9], shut)).to_json()
    assert written["exponent"] == [None] and json.dumps(written, allow_nan=False)


@pytest.mark.parametrize(("dim", "block", "time"), [(12, 1, 9), (12, 1, 30), (12, 3, 4), (12, 3, 5), (4, 4, 6)])
def test_a_register_keeps_what_has_not_left_it(dim, block, time):
    d = CoefficientDynamics(vectors(1, time, 1, dim), vectors(1, time, 1, dim), evolution.Shift(block))
    found = principles.normalization(d)
    one = np.eye(dim, k=-block)
    size = np.linalg.norm(np.linalg.matrix_power(one, time - 1), 2)
    assert float(found.exponent) == (0 if size else -math.inf) and float(found.radius) == 0
    assert float(found.norm) == np.linalg.norm(one, 2)


def test_large_states_are_followed_as_far_as_it_is_paid(monkeypatch):
    monkeypatch.setattr(sys.modules["mixerlens.principles.normalization"], "WORK", 32 * 8**3)
    half = evolution.Dense(0.5 * torch.eye(8, dtype=torch.float64))
    found = principles.normalization(CoefficientDynamics(vectors(1, 90, 1, 8), vectors(1, 90, 1, 8), half))
    assert found.exponent_tokens == 32 and float(found.exponent) == pytest.approx(math.log(0.5), rel=1e-12)


def test_a_radius_below_one_does_not_bound_the_product():
    up = torch.tensor([[0.5, 3.0], [0.0, 0.5]], dtype=torch.float64)
    turns = evolution.Dense(torch.stack([up if t % 2 else up.T for t in range(30)])[None, :, None])
    found = principles.normalization(CoefficientDynamics(vectors(1, 30, 1, 2), vectors(1, 30, 1, 2), turns))
    assert float(found.radius) < 1 < float(found.norm) and float(found.exponent) > 1
    assert [c.holds for c in found.conditions[2:]] == [False, True]


def test_what_bounds_a_row_is_said():
    query, key = vectors(1, 20, 1, 2), vectors(1, 20, 1, 2)

    def holds(**parts):
        return [c.holds for c in principles.normalization(CoefficientDynamics(query, key, **parts)).conditions[:2]]

    assert holds(readout=Polynomial((1, 1, 0.5)), normalizer=RowSum()) == [True, True]
    assert holds(readout=Polynomial((0.4, 1, 0.5)), normalizer=RowSum()) == [False, True]
    assert holds(normalizer=RowSumFloor(torch.ones(1, 1, 1))) == [False, False]
    assert holds(readout=Polynomial((0, 0, 0, 0, 1))) == [None, False]


def test_what_fades_is_bounded_for_a_linear_phi_and_not_for_sigmoid():
    """The theorem's condition: phi(0) = 1/2 of every token that has faded adds up."""
    query, key = vectors(1, 256, 1, 4), vectors(1, 256, 1, 4)
    half = evolution.Scalar(decay=torch.full((1, 1, 1), 0.5))
    linear = principles.normalization(CoefficientDynamics(query, key, half)).mass[0]
    kinked = principles.normalization(CoefficientDynamics(query, key, half, readout=Sigmoid())).mass[0]
    assert float(linear[-1]) < 60 and float(kinked[-1]) > 0.45 * 256
    assert "|phi(z)| <= c |z|" in principles.NormalizationPrinciple.theorem


@pytest.mark.parametrize("form", ["scalar", "dense"])
def test_the_exponent_is_of_the_first_token_and_runs_between_gates_have_their_own(form):
    def measured(values):
        decay = torch.tensor(values).double()
        kept = evolution.Scalar(decay=decay[None, :, None])
        if form == "dense":
            kept = evolution.Dense(decay[None, :, None, None, None] * torch.eye(2).double())
        return principles.normalization(CoefficientDynamics(vectors(1, 65, 1, 2), vectors(1, 65, 1, 2), kept))

    later = measured([1.0] + [0.5] * 32 + [2.0] * 32)
    assert abs(float(later.exponent)) < 1e-14 and float(later.mass[0, -1]) > 1e8
    assert "present at the first token" in later.meaning and "run" not in later.meaning
    shut = measured([1.0] + [3.0] * 20 + [0.0] + [2.0] * 43)
    assert float(shut.exponent) == -math.inf and float(shut.between) == pytest.approx(math.log(2), rel=1e-12)
    first = measured([1.0] + [3.0] * 40 + [0.0] + [2.0] * 23)
    assert float(first.between) == pytest.approx(math.log(3), rel=1e-12) and "longest run" in first.meaning
    never = measured([0.0] * 65)
    assert float(never.exponent) == -math.inf and bool(never.between.isnan())


@pytest.mark.parametrize("last", [12, 15, 16, 17, 30])
def test_dimensions_that_close_one_after_the_other_erase_together(last):
    decay = torch.full((1, 41, 1, 2), 2.0).double()
    decay[:, 10, :, 0] = decay[:, last, :, 1] = 0
    d = CoefficientDynamics(vectors(1, 41, 1, 2), vectors(1, 41, 1, 2), evolution.Diagonal(decay=decay))
    dense = evolution.Dense(torch.diag_embed(decay))
    for mixer in (d, CoefficientDynamics(d.query, d.key, dense)):
        found = principles.normalization(mixer)
        assert float(found.exponent) == -math.inf and float(found.between) == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("rate", [-40.0, -100.0, -500.0])
def test_a_strong_decay_does_not_look_like_a_closed_gate(rate):
    unit = torch.nn.functional.normalize(vectors(1, 65, 1, 4), dim=-1)
    beta = torch.full((1, 65, 1), 0.5).double()

    def exponent(log_decay):
        kept = evolution.Delta(unit, beta, log_decay=torch.full((1, 65, 1), log_decay).double())
        return float(principles.normalization(CoefficientDynamics(unit, unit, kept, beta)).exponent)

    assert exponent(rate) == pytest.approx(rate + exponent(0.0), rel=1e-12)


def test_a_maximum_over_some_tokens_says_over_how_many():
    full = torch.eye(2).double().repeat(1, 100, 1, 1, 1)
    found = principles.normalization(
        CoefficientDynamics(vectors(1, 100, 1, 2), vectors(1, 100, 1, 2), evolution.Dense(full)), most_matrices=10
    )
    assert found.norm_tokens == 10 and "10 tokens looked at (of 99)" in found.meaning
    assert found.conditions[2].found.endswith("10 of 99 tokens")


def test_where_no_state_exists_none_grows():
    query, key = vectors(1, 12, 1, 2), vectors(1, 12, 1, 2)
    found = principles.normalization(families.softmax_attention(query=query, key=key, causal=False))
    assert bool(found.exponent.isnan()) and bool(found.norm.isnan()) and "no A_t acts" in found.meaning
    assert len(found.conditions) == 2 and float(found.mass) == pytest.approx(1)
    single = principles.normalization(CoefficientDynamics(query[:, :1], key[:, :1]))
    assert bool(single.exponent.isnan()) and "no A_t acts" in single.meaning
