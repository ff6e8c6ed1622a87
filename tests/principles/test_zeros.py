"""What one query can zero, against the cells of the arrangement found one by one, numpy's ranks and scipy's hulls."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from mixerlens.errors import InputError
from mixerlens.principles import zeros
from mixerlens.readout import Exp, Identity, Polynomial, Relu, Sigmoid, Softcap
from mixerlens.reproduce.intervals import wilson


def cells(keys):
    """The signs (q.k_1, ..., q.k_N) of every cell: each has a corner where n - 1 of them are 0, either side of each."""
    count, dim = keys.shape
    found = set()
    for zeroed in combinations(range(count), dim - 1):
        normal = np.linalg.svd(keys[list(zeroed)])[2][-1]
        for side in (1, -1):
            signs = np.sign(side * keys @ normal).astype(int)
            for choice in product((1, -1), repeat=dim - 1):
                signs[list(zeroed)] = choice
                found.add(tuple(signs))
    return found


@pytest.mark.parametrize(("count", "dim"), [(4, 2), (5, 2), (5, 3), (7, 3), (6, 4)])
def test_cover_counts_the_cells(count, dim):
    keys = torch.randn(count, dim, dtype=torch.float64)
    every = cells(keys.numpy())
    assert len(every) == zeros.cover(count, dim)
    for target in range(count):
        others = [j for j in range(count) if j != target]
        alone = tuple(1 if j == target else -1 for j in range(count)) in every
        assert zeros.keeps_alone(keys, target, "half-space", others) == alone
        kept = [m for m in range(count) if any(
            c[target] == 1 and all(c[j] == -1 for j in others[:m]) for c in every
        )]  # fmt: skip
        assert zeros.most_nearest(keys, target, "half-space", others) == max(kept)


def test_cover_at_its_known_places():
    assert zeros.cover(3, 2) == 6 and zeros.cover(4, 3) == 14 and zeros.cover(1, 5) == 2
    for dim in (1, 2, 7, 20):
        assert zeros.cover_probability(2 * dim, dim) == 0.5
        assert all(zeros.cover_probability(n, dim) == 1 for n in range(1, dim + 1))
        assert zeros.cover_probability(dim + 1, dim) == pytest.approx(1 - 0.5**dim, abs=1e-15)
    with pytest.raises(InputError, match="at least 1"):
        zeros.cover(0, 3)


def test_random_keys_follow_cover():
    counts, trials = (2, 3, 4, 6), 300
    hits = zeros.random_keys(2, "half-space", counts, trials, 1)
    for n, hit in zip(counts, hits, strict=True):
        exact = sum(comb(n - 1, k) for k in range(2)) / 2 ** (n - 1)
        low, high = wilson(hit, trials, z=3.5)
        assert low <= exact <= high
    assert zeros.random_keys(3, "hyperplane", (2, 3, 4), 20, 0) == (20, 20, 0)


def test_a_hyperplane_is_a_question_of_rank():
    keys = torch.randn(9, 4, dtype=torch.float64)
    keys[3], keys[6] = keys[0] + keys[1], -2 * keys[5]
    for target in range(9):
        for m in range(1, 6):
            others = [j for j in range(9) if j != target][:m]
            ranks = [np.linalg.matrix_rank(keys[[*others, *extra]].numpy()) for extra in ([], [target])]
            assert zeros.keeps_alone(keys, target, "hyperplane", others) == (ranks[0] < ranks[1])


@pytest.mark.parametrize(("count", "dim"), [(12, 6), (20, 10), (9, 8)])
def test_a_linear_programme_agrees(count, dim):
    """max q.k over the others' half-spaces and |q| <= 1, solved as a linear programme, is 0 or it is not."""
    found = []
    for _ in range(8):
        keys = torch.randn(count, dim, dtype=torch.float64)
        box = linprog(-keys[0].numpy(), A_ub=keys[1:].numpy(), b_ub=np.zeros(count - 1), bounds=(-1, 1))
        found.append(zeros.keeps_alone(keys, 0, "half-space", list(range(1, count))))
        assert found[-1] == (-box.fun > 1e-7)
    assert any(found) and (count < 2 * dim or not all(found))


def test_corners_are_those_of_the_hull():
    keys = torch.randn(30, 3, dtype=torch.float64)
    corners = set(ConvexHull(keys.numpy()).vertices.tolist())
    assert 3 < len(corners) < 30
    for target in range(30):
        others = [j for j in range(30) if j != target]
        assert zeros.keeps_alone(keys, target, "corner", others) == (target in corners)
    keys[1] = keys[0]
    assert not zeros.keeps_alone(keys, 0, "corner", list(range(1, 30)))


def test_keys_that_are_nothing():
    keys = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    for rule in ("hyperplane", "half-space"):
        assert not zeros.keeps_alone(keys, 0, rule, [1]) and zeros.keeps_alone(keys, 1, rule, [0, 2])
        assert zeros.keeps_alone(keys, 1, rule, []) and not zeros.keeps_alone(keys, 0, rule, [])


def test_real_roots_by_sturm():
    known = {
        (1, 1, 0.5): 0,
        (1, -2, 1): 1,
        (-1, 0, 1): 2,
        (0, 0, 0, 1): 1,
        (0, -1, 0, 1): 3,
        (4,): 0,
        (1, 0, 2, 0, 1): 0,
    }
    for coefficients, count in known.items():
        assert zeros.real_roots([Fraction(c) for c in coefficients]) == count
    rng = np.random.default_rng(0)
    for _ in range(30):
        coefficients = rng.normal(size=rng.integers(2, 7))
        roots = np.roots(coefficients[::-1])
        assert zeros.real_roots([Fraction(c) for c in coefficients]) == int((np.abs(roots.imag) < 1e-9).sum())


def test_zero_sets():
    assert [zeros.zero_set(r) for r in (Identity(), Relu(), Exp(), Sigmoid(), Softcap(5.0))] == [
        "hyperplane", "half-space", "none", "none", "none",
    ]  # fmt: skip
    told = {(1, 1, 0.5): "none", (0, 0, 1): "hyperplane", (0, 1, 0, 1): "hyperplane", (-1, 0, 1): "level", (2,): "none"}
    assert {c: zeros.zero_set(Polynomial(c)) for c in told} == told
    assert [zeros.alone_rule(r) for r in (Exp(), Sigmoid(), Softcap(5.0), Relu())] == [
        "corner", "open", None, "half-space",
    ]  # fmt: skip


def test_sigmoid_zeroes_no_key_on_the_edge():
    """Two opposite keys cannot both be below 0, and a key that is zero has sigmoid 1/2 for every query."""
    keys = torch.tensor([[0.0, 1, 0], [1, 0, 0], [-1, 0, 0]]).double()
    assert zeros.keeps_alone(keys, 0, "half-space", [1, 2]) and not zeros.keeps_alone(keys, 0, "open", [1, 2])
    keys[2] = 0
    assert not zeros.keeps_alone(keys, 0, "open", [1, 2]) and zeros.keeps_alone(keys, 0, "open", [1])


@pytest.mark.parametrize(("count", "dim"), [(4, 2), (6, 3), (9, 4)])
def test_what_sigmoid_keeps_a_linear_programme_keeps(count, dim):
    found = []
    for _ in range(10):
        keys = torch.randn(count, dim, dtype=torch.float64)
        rest = (keys[1:] - keys[0]).numpy()
        below = np.concatenate([rest, keys[1:].numpy()])
        rows = np.concatenate([below, np.ones((len(below), 1))], 1)  # q.v + margin <= 0, |q| <= 1, margin largest
        best = linprog(np.eye(dim + 1)[-1] * -1, A_ub=rows, b_ub=np.zeros(len(rows)), bounds=(-1, 1))
        found.append(zeros.keeps_alone(keys, 0, "open", list(range(1, count))))
        assert found[-1] == (-best.fun > 1e-7)
        if found[-1]:
            z = torch.from_numpy(keys.numpy() @ best.x[:-1]) * 30 / best.x[-1]
            assert float(torch.exp(torch.nn.functional.logsigmoid(z)).div(z.sigmoid().sum())[0]) > 0.99
    assert any(found)


def test_faded_keys_are_corners_at_their_own_scale():
    keys = torch.tensor([[1, 0], [1e-6, 0], [0, 1e-12], [0, -1e-12], [-1e-6, 0]]).double()
    found = [zeros.keeps_alone(keys, t, "corner", [j for j in range(5) if j != t]) for t in range(5)]
    assert found == [True, False, True, True, True]
