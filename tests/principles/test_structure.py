"""Principle 4 against matrices written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, families, principles
from mixerlens.errors import UnsupportedError


def vectors(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def mixer(kind, time, dim):
    return CoefficientDynamics(vectors(1, time, 1, dim), vectors(1, time, 1, dim), kind)


def test_dense_matrices_by_hand():
    time, dim = 12, 4
    full = vectors(1, time, 1, dim, dim)
    d = mixer(evolution.Dense(full), time, dim)
    found = principles.structure(d)
    a, k = full[0, :, 0].numpy(), d.key[0, :, 0].numpy()
    assert found.tokens == tuple(range(1, time))
    for n, t in enumerate(found.tokens):
        moved = a[t] @ k[t - 1]
        cosine = moved @ k[t - 1] / np.linalg.norm(moved) / np.linalg.norm(k[t - 1])
        assert float(found.angle[0, n]) == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-9)
    rest = [m - np.trace(m) / dim * np.eye(dim) for m in a]
    for n, t in enumerate(found.tokens[:-1]):
        size = np.linalg.norm(a[t] @ a[t + 1] - a[t + 1] @ a[t])
        bound = math.sqrt(2) * np.linalg.norm(rest[t]) * np.linalg.norm(rest[t + 1])
        assert float(found.commutator[0, n]) == pytest.approx(size / bound, rel=1e-11) and size <= bound
    values = [np.linalg.eigvals(m) for m in a[1:]]
    turning = [np.abs(v.imag) > 1e-9 for v in values]
    assert float(found.turning) == pytest.approx(np.mean(turning), abs=1e-14)
    dets = [np.linalg.det(m) for m in a[1:]]
    assert float(found.log_det) == pytest.approx(np.mean(np.log(np.abs(dets))), rel=1e-11)
    assert float(found.reflecting) == np.mean([x < 0 for x in dets])
    assert float(found.least_real) == pytest.approx(min(v.real.min() for v in values), rel=1e-11)
    assert float(found.negative) == np.mean(
        [any(x.real < 0 for x, t in zip(v, c, strict=True) if not t) for v, c in zip(values, turning, strict=True)]
    )


def test_a_rotation_turns_by_its_angle_and_two_commute():
    found = principles.structure(mixer(evolution.Rotation(torch.tensor([0.4], dtype=torch.float64)), 10, 2))
    assert torch.allclose(found.angle, torch.full((1, 9), math.degrees(0.4), dtype=torch.float64), rtol=1e-12)
    assert float(found.commutator_largest) < 1e-15 and found.conditions[0].holds
    assert float(found.turning) == 1 and float(found.phase) == pytest.approx(math.degrees(0.4), rel=1e-12)
    assert float(found.reflecting) == 0 and abs(float(found.log_det)) < 1e-14


def test_householders_reflect_and_do_not_commute():
    w = vectors(1, 20, 1, 3)
    w = w / w.norm(dim=-1, keepdim=True)
    found = principles.structure(mixer(evolution.Delta(w, torch.full((1, 20, 1), 2.0).double()), 20, 3))
    assert float(found.reflecting) == float(found.negative) == 1 and float(found.turning) == 0
    assert float(found.least_real) == pytest.approx(-1, abs=1e-14) and abs(float(found.log_det)) < 1e-14
    # |[w w^T, u u^T]| = sqrt 2 |c| sqrt(1 - c^2), and |w w^T - I / n|^2 = 1 - 1 / n
    c = (w[0, 1:-1, 0] * w[0, 2:, 0]).sum(-1).abs()
    want = c * (1 - c.square()).sqrt() / (1 - 1 / 3)
    assert torch.allclose(found.commutator[0], want, rtol=1e-11)
    short = principles.structure(mixer(evolution.Delta(w, torch.full((1, 20, 1), 0.9).double()), 20, 3))
    assert float(short.negative) == 0 and not short.conditions[2].holds


def test_two_householders_in_one_token_can_turn():
    arguments = families.FAMILIES["delta_product"].arguments(0)
    arguments.pop("value")
    assert (principles.structure(families.delta_product(**arguments)).turning > 0).all()


def test_the_trivial_is_said_to_be_trivial():
    query, key = vectors(1, 12, 1, 2), vectors(1, 12, 1, 2)
    found = principles.structure(families.softmax_attention(query=query, key=key))
    assert found.silent.startswith("A_t = I") and float(found.commutator_largest) == 0
    assert float(found.angle_largest) == 0 and float(found.log_det) == 0
    scalar = principles.structure(mixer(evolution.Scalar(decay=torch.tensor(-0.5)), 12, 2))
    assert "number times I" in scalar.silent and float(scalar.angle_median) == pytest.approx(180)
    assert float(scalar.negative) == 1 and scalar.conditions[2].holds
    both = principles.structure(families.softmax_attention(query=query, key=key, causal=False))
    assert "bidirectional" in both.silent and bool(both.angle_largest.isnan().all())


def test_states_too_large_to_hold_are_refused_and_named():
    taps = vectors(1, 1500, 1, 1)
    d = CoefficientDynamics(taps.expand(1, 1500, 1, 1500), taps.expand(1, 1500, 1, 1500), evolution.Shift())
    with pytest.raises(UnsupportedError, match="1500 x 1500"):
        principles.structure(d)
    report = principles.measure(d, which=["structure"])
    assert "1500 x 1500" in report.refused["structure"] and not report.records
    with pytest.raises(UnsupportedError, match="1500 x 1500"):
        _ = report["structure"]


def test_a_and_c_need_not_commute_where_both_commute_with_b():
    x, y, z = [1.0, 0, 0], [0, 1.0, 0], [0.6, 0, 0.8]
    w = torch.tensor([x, x, y, z, y, x]).double()[None, :, None]
    d = CoefficientDynamics(w, w, evolution.Delta(w, torch.ones(1, 6, 1).double()))
    found = principles.structure(d)
    assert float(found.commutator_largest) < 1e-15  # all neighbours commute
    assert found.conditions[0].holds is False
    w = torch.tensor([x, x, y, y, y, x]).double()[None, :, None]
    d = CoefficientDynamics(w, w, evolution.Delta(w, torch.ones(1, 6, 1).double()))
    assert principles.structure(d).conditions[0].holds is None  # no kind says so


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_a_defective_eigenvalue_is_not_called_a_rotation(size):
    basis = np.linalg.qr(vectors(size, size).numpy())[0]
    block = torch.from_numpy(basis @ (0.9 * np.eye(size) + 0.5 * np.eye(size, k=1)) @ basis.T)
    found = principles.structure(mixer(evolution.Dense(block), 16, size))
    assert float(found.turning) == 0 and [c.holds for c in found.conditions[1:3]] == [None, None]
    shown = principles.structure(mixer(evolution.Dense(torch.triu(vectors(size, size))), 16, size))
    assert shown.conditions[1].holds is True and float(shown.turning) == 0


def test_a_small_rotation_is_one():
    small = principles.structure(mixer(evolution.Rotation(torch.tensor([1e-7], dtype=torch.float64)), 10, 2))
    assert float(small.turning) == 1 and small.conditions[1].holds is False and small.conditions[2].holds
