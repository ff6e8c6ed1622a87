"""Time-invariant kinds without a closed kernel: their lags are scanned once, from two chunks' factors."""

from __future__ import annotations

import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, oracle

HEADS, DIM = 3, 4


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


KINDS = {
    "dense": lambda: evolution.Dense(0.97 * torch.linalg.qr(torch.randn(1, 1, HEADS, DIM, DIM).double())[0]),
    "read before write": lambda: evolution.ReadBeforeWrite(evolution.Scalar(decay=2 * rand(HEADS) - 1)),
    "rank one": lambda: evolution.DiagonalPlusRankOne(
        0.2 * rand(1, 1, HEADS, DIM), -0.2 * rand(1, 1, HEADS, DIM), decay=rand(1, 1, HEADS, DIM)
    ),
    "unipotent": lambda: evolution.Unipotent(-rand(1, 1, HEADS)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", ["1", "chunk-1", "chunk", "chunk+1", "3 chunks+5"])
def test_the_convolution_is_the_equation(kind, time):
    torch.manual_seed(0)
    A = KINDS[kind]()
    length = {"1": 1, "chunk-1": A.chunk - 1, "chunk": A.chunk, "chunk+1": A.chunk + 1}.get(time, 3 * A.chunk + 5)
    query, key = (torch.randn(1, 1, HEADS, DIM, dtype=torch.float64) for _ in range(2))
    v = torch.randn(2, length, HEADS, 2, dtype=torch.float64)
    d = CoefficientDynamics(query, key, A, length=length)
    assert d.time_invariant
    want = oracle(d, v)
    assert (d.operator() @ v - want).abs().max() <= 1e-12 * want.abs().max()
