"""Two-level powers against the sum written out, one exponential a lag and mode, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.evolution.power_sums import power_sums

LENGTHS = [1, 2, 15, 16, 17, 255, 256, 257, 1000]
KINDS = ["complex", "real"]


def drawn(kind, rows=3, modes=5):
    """Exponents of slow, fast and turning modes, and weights."""
    torch.manual_seed(0)
    rate = -torch.rand(rows, modes, dtype=torch.float64) * torch.logspace(-4, 0.5, modes, dtype=torch.float64)
    if kind == "real":
        return rate, torch.randn(rows, modes, dtype=torch.float64)
    turn = 3 * torch.randn(rows, modes, dtype=torch.float64)
    return torch.complex(rate, turn), torch.randn(rows, modes, dtype=torch.complex128)


def written_out(weight, length, log):
    return (weight[..., None] * torch.exp(log[..., None] * torch.arange(length, dtype=torch.float64))).sum(-2)


def relative(got, want):
    """The error against the largest entry of its row, of the worst row."""
    return float(((got.to(want.dtype) - want).abs().amax(-1) / want.abs().amax(-1)).max())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["log", "base"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1.2e-7), (torch.float64, 1e-12)])
def test_the_sums_are_the_definition(length, kind, given, dtype, bound):
    log, weight = drawn(kind)
    powers = {"log": log} if given == "log" else {"base": torch.exp(log)}
    full = dtype.to_complex() if kind == "complex" else dtype
    want = written_out(weight, length, log)
    got = power_sums(weight, length, log=powers.get("log"), base=powers.get("base"), dtype=full)
    assert got.dtype == full and got.shape == want.shape
    assert relative(got, want) <= bound
    part = power_sums(weight, length, log=powers.get("log"), base=powers.get("base"), dtype=full, real=True)
    assert part.dtype == dtype
    assert relative(part, want.real) <= 2 * bound


def test_cancelling_modes_keep_their_digits():
    """Pairs of neighbouring modes with opposite weights: their sum is a thousandth of each."""
    log, _ = drawn("complex", modes=1)
    log, weight = torch.cat([log, log + 1e-3], -1), torch.tensor([1.0, -1.0], dtype=torch.complex128).expand(3, 2)
    want = written_out(weight, 500, log)
    assert relative(power_sums(weight, 500, log=log, dtype=torch.complex64), want) <= 1.2e-7


def test_zeros_signs_and_closed_gates():
    base = torch.tensor([[0.0, -1.0, -0.5, 1.0]], dtype=torch.float64)
    for n, row in enumerate(([1, 0, 0], [1, -1, 1], [1, -0.5, 0.25], [1, 1, 1])):
        weight = torch.zeros(1, 4, dtype=torch.float64)
        weight[0, n] = 1
        assert power_sums(weight, 3, base=base, dtype=torch.float64).tolist() == [row]
    closed = torch.tensor([[-math.inf, 0.0]], dtype=torch.float64)
    assert power_sums(torch.ones(1, 2).double(), 40, log=closed, dtype=torch.float64).tolist() == [[2.0] + [1.0] * 39]


@pytest.mark.parametrize("kind", KINDS)
def test_strong_decays_leave_no_subnormal_numbers_behind(kind):
    """Products of subnormal factors take five times as long; what is that small next to lag 0 is zero."""
    log, weight = drawn(kind)
    sums = power_sums(weight, 4000, log=log - 0.5, dtype=weight.dtype)
    assert relative(sums, written_out(weight, 4000, log - 0.5)) <= 1e-12
    size = torch.view_as_real(sums).abs() if sums.is_complex() else sums.abs()
    assert not bool(((size > 0) & (size < 1e-300)).any())


def test_leading_axes_broadcast():
    log, weight = drawn("complex")
    weight = torch.stack([weight, 2 * weight])
    got = power_sums(weight, 50, log=log[None], dtype=torch.complex128)
    assert relative(got, written_out(weight, 50, log[None])) <= 1e-12
    one = power_sums(weight, 50, log=log[None, :, :1], dtype=torch.complex128)
    assert relative(one, written_out(weight, 50, log[None, :, :1].expand(2, 3, 5))) <= 1e-12


@pytest.mark.parametrize("length", [1, 2, 17, 40])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["log", "base"])
@pytest.mark.parametrize("real", [True, False])
def test_gradients(length, kind, given, real):
    log, weight = drawn(kind, rows=2, modes=3)
    generator = log if given == "log" else torch.exp(log) - 0.3
    if given == "base" and kind == "real":
        generator[0, 0] = 0.0  # d a^l = l a^(l - 1), without a division
    dtype = weight.dtype
    generator, weight = generator.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda g, w: power_sums(
            w, length, log=g if given == "log" else None, base=g if given == "base" else None, dtype=dtype, real=real
        ),
        (generator, weight),
    )


def test_float32_gradients_are_the_definitions():
    log, weight = drawn("complex")
    cotangent = torch.randn(3, 3000, dtype=torch.float64)
    ends = [x.clone().requires_grad_() for x in (log, weight)]
    want = torch.autograd.grad(written_out(ends[1], 3000, ends[0]).real, ends, cotangent)
    got = torch.autograd.grad(
        power_sums(ends[1], 3000, log=ends[0], dtype=torch.float32, real=True), ends, cotangent.float()
    )
    for a, b in zip(got, want, strict=True):
        assert float((a - b).abs().max() / b.abs().max()) <= 1e-6
