"""State ranks against singular values of dense blocks, and against what is known of each readout."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixerlens import families, measures
from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import DiagonalPlusRankOne
from mixerlens.readout import Exp, Polynomial, Relu


def by_hand(dynamics, head, tolerance, cuts):
    alpha = dynamics.to(torch.float64).operator().to_dense()[0, head].numpy()
    best = 0
    for t in cuts:
        s = np.linalg.svd(alpha[t:, :t], compute_uv=False)
        best = max(best, int((s > tolerance * s[0]).sum()))
    return best


def test_finite_states_show_their_size():
    key = torch.nn.functional.normalize(torch.randn(1, 64, 2, 6), dim=-1)
    query, beta, g = torch.randn(1, 64, 2, 6), torch.rand(1, 64, 2), -0.2 * torch.rand(1, 64, 2)
    found = measures.state_rank(families.gated_delta_net(query, key, g, beta))
    assert found.ranks[:, 2].tolist() == [6, 6] and found.designed == 6
    assert found.lower_bound and found.cap == 32 and not found.at_cap.any()


def test_complex_modes_count_twice():
    rate = torch.complex(-torch.rand(2, 3) * 0.2 - 0.05, torch.tensor([[0.3, 1.1, 2.0], [0.5, 0.9, 2.6]]))
    dynamics = families.s4d(A=rate, B=torch.ones_like(rate), C=torch.ones_like(rate), dt=torch.ones(2), length=64)
    found = measures.state_rank(dynamics)
    assert found.designed == 6 and found.ranks[:, 2].tolist() == [6, 6]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_modes_held_beside_their_conjugates_count_once(dtype):
    """S4 couples the modes to their conjugates and holds both; its state is 2 N real numbers all the same."""
    modes, given = 3, {name: torch.randn(2, 3, dtype=dtype) for name in ("P", "B", "C")}
    A = torch.complex(-torch.rand(2, modes) - 0.1, 3 * torch.randn(2, modes)).to(dtype)
    dynamics = families.s4(A=A, dt=torch.tensor([0.5, 0.8]), length=64, **given)
    found = measures.state_rank(dynamics, cuts="all")
    assert found.designed == 2 * modes and (found.ranks[:, 2] == 2 * modes).all()
    turn = torch.tensor([1, 1, 1, 1, 1, 1j])  # of the evolution: its eigenvalues are no longer pairs
    evolution = dynamics.evolution
    assert isinstance(evolution, DiagonalPlusRankOne)
    torn = replace(dynamics, evolution=replace(evolution, left=evolution.left * turn))
    found = measures.state_rank(torn, cuts="all")
    assert found.designed == 4 * modes and (found.ranks[:, 2] > 2 * modes).all()


@pytest.mark.parametrize("cuts", [1, 5, "all", [10, 20]])
def test_every_tolerance_from_dense_blocks(cuts):
    query, key = torch.randn(1, 41, 3, 4), torch.randn(1, 41, 3, 4)
    dynamics = families.softmax_attention(query=query, key=key)
    found = measures.state_rank(dynamics, cuts=cuts)
    for head in range(3):
        for k, tolerance in enumerate((1e-3, 1e-6, 1e-10)):
            assert int(found.ranks[head, k]) == by_hand(dynamics, head, tolerance, found.cuts)
    assert found.lower_bound == (cuts != "all")
    assert found.cap == max(min(t, 41 - t) for t in found.cuts)


def test_known_ranks_of_readouts():
    """n = 3, T = 256: identity 3, z^2 6, 1 + z + z^2/2 10; exp and relu grow until the tolerance or the cap."""
    query, key = torch.randn(1, 256, 1, 3).double(), torch.randn(1, 256, 1, 3).double()

    def ranks(**parts):
        return measures.state_rank(CoefficientDynamics(query, key, **parts), cuts=1).ranks[0].tolist()

    assert ranks() == [3, 3, 3]
    assert ranks(readout=Polynomial((0, 0, 1)))[1:] == [6, 6]
    assert ranks(readout=Polynomial((1, 1, 0.5)))[1:] == [10, 10]
    grown = ranks(readout=Exp())
    assert 10 < grown[0] < grown[1] < grown[2] <= 128
    assert ranks(readout=Relu())[2] >= 120


def test_leading_tokens_bound_from_below():
    query, key = torch.randn(1, 60, 2, 4), torch.randn(1, 60, 2, 4)
    dynamics = families.softmax_attention(query=query, key=key)
    part = measures.state_rank(dynamics, cuts="all", tokens=24)
    same = measures.state_rank(families.softmax_attention(query=query[:, :24], key=key[:, :24]), cuts="all")
    assert torch.equal(part.ranks, same.ranks)
    assert part.lower_bound and part.tokens == 24 and part.of_tokens == 60 and not same.lower_bound
    whole = measures.state_rank(dynamics, cuts="all")
    assert (whole.ranks >= part.ranks).all()


def test_leading_tokens_of_every_kind_of_part():
    rate = torch.complex(-torch.rand(2, 3) - 0.1, torch.randn(2, 3))
    cases = [
        families.s4d(A=rate, B=torch.ones_like(rate), C=torch.ones_like(rate), dt=torch.rand(2), length=50),
        families.mamba(A=-torch.rand(4, 2), B=torch.randn(1, 50, 2), C=torch.randn(1, 50, 2), dt=torch.rand(1, 50, 4)),
        families.retention(torch.randn(1, 50, 2, 4), torch.randn(1, 50, 2, 4), torch.tensor([0.9, 0.8]), torch.rand(2)),
        families.softmax_attention(
            query=torch.randn(1, 50, 2, 4), key=torch.randn(1, 50, 1, 4), sinks=torch.randn(2), rope=torch.rand(2),
            segments=torch.tensor([[0] * 30 + [1] * 20]),
        ),
    ]  # fmt: skip
    for dynamics in cases:
        found = measures.state_rank(dynamics, cuts=[7, 12], tokens=20)
        alpha = dynamics.to(torch.float64).operator().to_dense()[0, :, :20, :20]
        for head in range(dynamics.heads):
            blocks = [np.linalg.svd(alpha[head, t:, :t].numpy(), compute_uv=False) for t in (7, 12)]
            assert int(found.ranks[head, 1]) == max(int((s > 1e-6 * s[0]).sum()) for s in blocks)


def test_refusals():
    query = torch.randn(1, 9, 1, 2)
    with pytest.raises(UnsupportedError, match="bidirectional"):
        measures.state_rank(families.softmax_attention(query=query, key=query, causal=False))
    with pytest.raises(InputError, match="tolerances"):
        measures.state_rank(families.linear_attention(query, query), tolerances=(1.0,))
    with pytest.raises(InputError, match="at least two tokens"):
        measures.state_rank(families.linear_attention(query[:, :1], query[:, :1]))


def test_sums_are_measured_by_their_parts():
    query = torch.randn(1, 9, 1, 2)
    part = families.linear_attention(query, query)
    for measure in (measures.state_rank, measures.horizon, measures.spectrum):
        with pytest.raises(InputError, match=r"operator\(\).state_rank\(\) works on sums; measure its parts"):
            measure(CoefficientSum((part, part), (1.0, 0.5)))


def test_json():
    query = torch.randn(1, 16, 2, 2)
    written = json.loads(json.dumps(measures.state_rank(families.linear_attention(query, query)).to_json()))
    assert written["ranks"] == [[2, 2, 2], [2, 2, 2]] and written["units"]["ranks"] == "numbers"
