"""Time-invariant kinds without a closed kernel: their lags are scanned once, from two chunks' factors."""

from __future__ import annotations

import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, oracle
from mixerlens.operator import fourier, toeplitz

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


@pytest.mark.parametrize("kind", KINDS)
def test_long_kernels_are_the_equation(kind):
    """So many chunks that blocks of states are carried by the matrix of several chunks."""
    torch.manual_seed(0)
    A = KINDS[kind]()
    length = 11 * A.chunk + 3
    query, key = (torch.randn(1, 1, HEADS, DIM, dtype=torch.float64) for _ in range(2))
    d = CoefficientDynamics(query, key, A, length=length)
    impulse = torch.zeros(1, length, HEADS, 1, dtype=torch.float64)
    impulse[:, 0] = 1
    want = oracle(d, impulse)[..., 0].transpose(1, 2)
    assert (toeplitz.kernel(d) - want).abs().max() <= 1e-12 * want.abs().max()


def test_a_growing_evolution_keeps_finite_lags_finite():
    """The power that would carry many chunks at once overflows; the impulse itself never visits what grows."""
    A = evolution.Dense(torch.diag(torch.tensor([1e4, 0.9], dtype=torch.float64))[None, None, None])
    one = torch.tensor([0.0, 1.0], dtype=torch.float64)[None, None, None]
    d = CoefficientDynamics(one, one, A, length=1000)
    want = 0.9 ** torch.arange(1000, dtype=torch.float64)
    assert (toeplitz.kernel(d)[0, 0] - want).abs().max() <= 1e-12


def lower_triangle(kernel):
    """The matrix (batch, heads, time, time) with kernel[i - j] at (i, j)."""
    lag = torch.arange(kernel.shape[-1])[:, None] - torch.arange(kernel.shape[-1])
    return torch.where(lag >= 0, kernel[..., lag.clamp(min=0)], 0)


TIMES = [1, 2, 5, 63, 600]  # 600: more than one tile of the transposing copy
BATCHES = [(1, 1, 3, 3), (2, 2, 3, 3), (1, 2, 3, 3), (2, 1, 3, 3), (1, 2, 1, 3), (1, 2, 3, 1)]


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("dtypes", [("float64", "float64"), ("complex128", "complex128"), ("float64", "complex128")])
def test_convolutions_are_triangular_products(time, dtypes):
    torch.manual_seed(0)
    first, second = (getattr(torch, name) for name in dtypes)
    for kernel_batch, batch, kernel_heads, heads in BATCHES:
        kernel = torch.randn(kernel_batch, kernel_heads, time, dtype=first)
        v = torch.randn(batch, time, heads, 2, dtype=second).transpose(1, 2)
        alpha = lower_triangle(kernel).to(second)
        for got, want in ((toeplitz.convolve(kernel, v), alpha @ v), (toeplitz.correlate(kernel, v), alpha.mT @ v)):
            assert got.shape == want.shape
            assert (got - want).abs().max() <= 1e-13 * want.abs().max()


@pytest.mark.parametrize("act", [toeplitz.convolve, toeplitz.correlate])
@pytest.mark.parametrize("time", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients_of_convolutions(act, time, dtype):
    for kernel_batch, batch, kernel_heads, heads in BATCHES:
        kernel = torch.randn(kernel_batch, min(kernel_heads, 2), time, dtype=dtype, requires_grad=True)
        v = torch.randn(batch, min(heads, 2), time, 2, dtype=dtype, requires_grad=True)
        assert torch.autograd.gradcheck(act, (kernel, v))


@pytest.mark.parametrize("act", [toeplitz.convolve, toeplitz.correlate])
def test_channels_transformed_in_parts_are_the_same(act, monkeypatch):
    """More values, rows and heads than are transformed at once, none a multiple of how many that is."""
    torch.manual_seed(0)
    kernel, v = torch.randn(1, 5, 9, dtype=torch.float64), torch.randn(3, 5, 9, 7, dtype=torch.float64)
    alpha = lower_triangle(kernel)
    want = (alpha if act is toeplitz.convolve else alpha.mT) @ v
    cotangent = torch.randn_like(v)
    monkeypatch.setattr(fourier, "_SHARE", 1)
    for signals in (1, 2, 7, 16, 50):
        monkeypatch.setattr(fourier, "_CACHE", signals * 8 * fourier.size_for(9))
        ends = [x.clone().requires_grad_() for x in (kernel, v)]
        got = act(*ends)
        assert (got - want).abs().max() <= 1e-13 * want.abs().max()
        expected = torch.autograd.grad(
            ((lower_triangle(ends[0]) if act is toeplitz.convolve else lower_triangle(ends[0]).mT) @ ends[1]),
            ends, cotangent,
        )  # fmt: skip
        for a, b in zip(torch.autograd.grad(got, ends, cotangent), expected, strict=True):
            assert (a - b).abs().max() <= 1e-13 * b.abs().max()


def test_sizes_hold_the_convolution_and_are_fast():
    for time in (*range(1, 300), 784, 1000, 4096, 4097, 131072):
        size = fourier.size_for(time)
        assert 2 * time - 1 <= size < 1.25 * max(2 * time - 1, 8) + 1 and size % 2 == 0
        for prime in (2, 3, 5, 7):
            while size % prime == 0:
                size //= prime
        assert size == 1
