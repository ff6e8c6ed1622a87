"""Principle 1 against the ranks that are known of each readout and against numpy's singular values."""

from __future__ import annotations

import json
from math import comb

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, families, principles
from mixerlens.readout import Exp, Polynomial, Relu
from mixerlens.support import Support


def draw(time, dim, heads=1):
    return torch.randn(1, time, heads, dim).double(), torch.randn(1, time, heads, dim).double()


def test_the_known_ranks_at_three_tolerances():
    """n = 3, T = 256: identity 3, z^2 6, 1 + z + z^2 / 2 10 and no more; exp and relu go on growing."""
    query, key = draw(256, 3)

    def measured(**parts):
        return principles.readout(CoefficientDynamics(query, key, **parts), cuts=16)

    for parts, size in (({}, 3), ({"readout": Polynomial((0, 0, 1))}, 6), ({"readout": Polynomial((1, 1, 0.5))}, 10)):
        found = measured(**parts)
        assert found.ranks[0, -1].tolist() == [size] * 3 and found.finite == size
        assert found.verdicts == (("plateau",) * 3,)
        assert found.gap is not None and float(found.gap.max()) < 1e-13
    grown, kinked = measured(readout=Exp()), measured(readout=Relu())
    for rank, known in zip(grown.ranks[0, -1].tolist(), (29, 76, 122), strict=True):
        assert abs(rank - known) <= 4
    for rank, known in zip(kinked.ranks[0, -1].tolist(), (78, 127, 128), strict=True):
        assert abs(rank - known) <= 4
    assert grown.finite is kinked.finite is None and grown.gap is kinked.gap is None
    assert grown.verdicts == (("grows", "grows", "too short"),) and kinked.verdicts[0][2] == "at the cap"


def test_every_length_is_the_rank_of_the_leading_block():
    query, key = draw(64, 2)
    found = principles.readout(CoefficientDynamics(query, key, readout=Exp()), cuts="all")
    alpha = np.exp(query[0, :, 0].numpy() @ key[0, :, 0].numpy().T)
    assert found.lengths == (16, 32, 64) and found.caps == (8, 16, 32)
    for k, time in enumerate(found.lengths):
        for column, tolerance in enumerate(found.tolerances):
            values = [np.linalg.svd(alpha[t:time, :t], compute_uv=False) for t in range(1, time)]
            assert int(found.ranks[0, k, column]) == max(int((s > tolerance * s[0]).sum()) for s in values)


@pytest.mark.parametrize(("dim", "degree"), [(1, 3), (2, 3), (4, 2)])
def test_one_degree_lifts_to_a_binomial(dim, degree):
    query, key = draw(160, dim)
    found = principles.readout(CoefficientDynamics(query, key, readout=Polynomial((0,) * degree + (1,))))
    assert found.finite == comb(dim + degree - 1, degree) == int(found.ranks[0, -1, 2])


def test_relu_on_one_number_and_windows_are_finite():
    query, key = draw(128, 1)
    found = principles.readout(CoefficientDynamics(query, key, readout=Relu()))
    assert found.finite == 2 and found.ranks[0, -1].tolist() == [2, 2, 2] and found.gap is not None
    assert float(found.gap) < 1e-14
    query, key = draw(128, 5)
    found = principles.readout(CoefficientDynamics(query, key, readout=Exp(), support=Support(window=7)))
    assert found.finite == 6 and int(found.ranks[0, -1, 2]) == 6
    assert not next(c for c in found.conditions if "window" in c.text).holds


def test_too_short_and_bidirectional_say_so():
    query, key = draw(40, 12)
    assert principles.readout(CoefficientDynamics(query, key)).verdicts[0][2] == "too short"
    found = principles.readout(families.softmax_attention(query=query, key=key, causal=False))
    assert found.lengths == () and "bidirectional" in found.silent and found.finite is None


def test_padding_and_packed_neighbours_are_left_out():
    query, key = draw(90, 3)
    segments = torch.tensor([[-1] * 10 + [0] * 20 + [1] * 60])
    packed = families.linear_attention(query, key, segments=segments)
    alone = families.linear_attention(query[:, 30:], key[:, 30:])
    found, wanted = principles.readout(packed), principles.readout(alone)
    assert found.lengths == wanted.lengths == (30, 60)[-len(found.lengths) :]
    assert torch.equal(found.ranks, wanted.ranks)


def test_json():
    query, key = draw(32, 2, heads=2)
    written = json.loads(json.dumps(principles.readout(CoefficientDynamics(query, key)).to_json(), allow_nan=False))
    assert written["ranks"][0][-1] == [2, 2, 2] and written["units"]["ranks"] == "numbers a value channel"
    assert written["principle"] == 1 and written["conditions"][0]["holds"] and written["counterexamples"][0]["code"]


def test_the_rank_never_falls_with_the_length_and_says_where_it_was_not_looked():
    """Five keys read at once before token 13, and one by every later token: only cuts at 5 .. 8 show five."""
    query, key = torch.zeros(1, 64, 1, 8).double(), torch.zeros(1, 64, 1, 8).double()
    key[:, :5], query[:, 8:13] = draw(5, 8)
    key[:, 20], query[:, 21:] = torch.eye(8).double()[0], torch.eye(8).double()[0]
    d = CoefficientDynamics(query, key)
    few = principles.readout(d, cuts=3)
    assert few.ranks[0, :, 2].tolist() == [5, 5, 5] and few.lower_bound and ": at least 5" in few.meaning
    found = principles.readout(d)
    assert found.ranks[0, :, 2].tolist() == [5, 5, 5]
    assert not found.lower_bound and "at least" not in found.meaning


def test_every_cut_of_a_recurrent_mixer_is_looked_at():
    """What enters at token 0 fades at once: the middle cuts see nothing of it."""
    query, key = draw(64, 3)
    decay = torch.zeros(1, 64, 1).double()
    decay[:, 1:4] = 1
    key[:, 4:] = 0
    d = CoefficientDynamics(query, key, evolution.Scalar(decay=decay))
    assert int(principles.readout(d, cuts=3).ranks[0, -1, 2]) == 0
    assert int(principles.readout(d).ranks[0, -1, 2]) == 2  # cut 2: two keys, read by two tokens
