"""The C path of the selective scan, every instruction set: values, gradients, and what is not a number."""

from __future__ import annotations

import ctypes
import math
import random
import threading
from decimal import Decimal, localcontext

import pytest
import torch
from torch.nn import functional as F

from mixerlens import native
from mixerlens.native import scan
from mixerlens.scans import mamba, selective_scan

NAMES = ("y", "last", "x", "dt", "A", "B", "C", "initial_state")
BARS = {torch.float32: 1e-6, torch.float64: 1e-13}


def arguments(batch, time, channels, state, dtype=torch.float64):
    x, B, C = (torch.randn(batch, time, size, dtype=dtype) for size in (channels, state, state))
    dt = F.softplus(torch.randn(batch, time, channels, dtype=dtype))
    A = -torch.exp(torch.randn(channels, state, dtype=dtype))
    return [x, dt, A, B, C, torch.randn(batch, channels, state, dtype=dtype)]


def plain(x, dt, A, B, C, h):
    """h_t = exp(dt A) h + dt B x, y = C h, one step after the other."""
    rows = [x.new_empty(x.shape[0], 0, x.shape[2])]
    for x_t, step, b, c in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        h = torch.exp(step[..., None] * A) * h + (step * x_t)[..., None] * b[:, None]
        rows.append((h * c[:, None]).sum(-1)[:, None])
    return torch.cat(rows, 1), h


def everything(function, given, weights=None):
    """Outputs and all gradients, of a sum that weighs all outputs differently."""
    given = [tensor.detach().clone().requires_grad_() for tensor in given]
    outputs = function(*given)
    weights = weights or [torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape) for out in outputs]
    total = sum((w.to(out.dtype) * out).sum() for w, out in zip(weights, outputs, strict=True))
    return *(out.detach() for out in outputs), *torch.autograd.grad(total, given)


def relative(got, want):
    return float((got - want).abs().max() / want.abs().max()) if want.numel() else 0.0


SHAPES = [
    (2, 1, 1, 1),
    (1, 2, 3, 1),
    (2, 63, 16, 16),
    (1, 64, 17, 3),
    (3, 65, 37, 5),
    (2, 200, 64, 17),
    (1, 129, 5, 33),
]


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_the_recurrences(library, shape, dtype):
    given = arguments(*shape, dtype=dtype)
    got, want = everything(selective_scan, given), everything(plain, [tensor.double() for tensor in given])
    for name, a, b in zip(NAMES, got, want, strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        assert relative(a.double(), b) < BARS[dtype], name


def test_states_kept_far_apart_give_the_same_gradients(library, monkeypatch):
    given = arguments(2, 400, 19, 3)
    want = everything(plain, given)
    for kept in (1, 2000, 10**9):
        monkeypatch.setattr(mamba, "KEPT", kept)
        for name, a, b in zip(NAMES, everything(selective_scan, given), want, strict=True):
            assert relative(a, b) < 1e-13, (name, kept)


def test_states_are_kept_within_the_limit(library):
    given = arguments(1, 2000, 16, 4)
    counts = [native.forward(library, *given, keep=keep)[2].states.shape[0] for keep in (10**9, 8 * 2**10, 1)]
    assert counts == [32, 16, 1]  # every 64 steps, 8 KiB of states of 512 bytes each, the longest stretch there is


@pytest.mark.parametrize("sizes", [(2, 0, 5, 3), (0, 4, 5, 3), (2, 4, 0, 3), (2, 4, 5, 0)])
def test_empty_sizes(library, sizes):
    given = arguments(*sizes)
    for a, b in zip(selective_scan(*given), plain(*given), strict=True):
        assert a.shape == b.shape and torch.equal(a, b)
    if sizes[1] == 0:
        return
    for a, b in zip(everything(selective_scan, given), everything(plain, given), strict=True):
        assert a.shape == b.shape and torch.allclose(a, b)


def test_strides_of_any_kind(library):
    given = arguments(2, 70, 20, 6)
    want = everything(selective_scan, given)
    turned = [tensor.transpose(0, -1).contiguous().transpose(0, -1) for tensor in given]
    wide = [torch.cat([tensor, tensor], -1)[..., : tensor.shape[-1]] for tensor in given]
    flipped = [torch.view_as_complex(torch.stack([t, -t], -1)).conj().imag for t in given]  # marked as negative
    assert all(tensor.is_neg() for tensor in flipped)
    for strided in (turned, wide, flipped):
        assert all(torch.equal(a, b) for a, b in zip(selective_scan(*strided), want[:2], strict=True))
        leaves = [tensor.requires_grad_() for tensor in strided]
        outputs = selective_scan(*leaves)
        outer = [torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape) for out in outputs]
        gradients = torch.autograd.grad(outputs, leaves, outer)
        assert all(torch.equal(a, b) for a, b in zip(gradients, want[2:], strict=True))


def test_expanded_gradients_and_unused_outputs(library):
    given = [tensor.requires_grad_() for tensor in arguments(2, 70, 20, 6)]
    for pick in (lambda y, last: y.sum(), lambda y, last: last.sum(), lambda y, last: y[:, -1].sum()):
        got, want = (
            torch.autograd.grad(pick(*function(*given)), given, allow_unused=True)
            for function in (selective_scan, plain)
        )
        for a, b in zip(got, want, strict=True):
            assert relative(a, torch.zeros_like(a) if b is None else b) < 1e-13 or float(a.abs().max()) == 0


def test_gradcheck(library):
    given = [tensor.requires_grad_() for tensor in arguments(2, 5, 3, 2)]
    assert torch.autograd.gradcheck(selective_scan, given)


BROKEN = {
    "x": (0, (0, 3, 2), math.inf), "dt": (1, (1, 2, 4), math.nan), "A": (2, (4, 1), -math.inf),
    "grows": (2, (0, 0), 1e4), "B": (3, (0, 1, 2), math.inf), "C": (4, (1, 0, 0), math.nan),
    "h": (5, (0, 4, 0), -math.inf),
}  # fmt: skip


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_number_spreads_as_far_as_on_the_torch_path(library, monkeypatch, what, dtype):
    given = arguments(2, 70, 5, 3, dtype)
    index, place, value = BROKEN[what]
    given[index][place] = value
    got = everything(selective_scan, given)
    with monkeypatch.context() as patched:
        patched.setattr(scan, "library", lambda: None)
        want = everything(selective_scan, given)
    for name, a, b in zip(NAMES, got, want, strict=True):
        finite = b.isfinite()
        assert torch.equal(a.isfinite(), finite), name
        torch.testing.assert_close(a[finite], b[finite], rtol=1e-4, atol=1e-5)
        if name in ("y", "last"):  # in gradients an infinity of one path may be inf - inf of the other
            assert torch.equal(a.isnan(), b.isnan()) and torch.equal(a.isposinf(), b.isposinf()), name


def test_no_step_keeps_the_state_and_a_huge_one_forgets_it(library):
    x, dt, A, B, C, h = arguments(1, 3, 7, 2, torch.float32)
    assert torch.equal(selective_scan(x, 0 * dt, A, B, C, h)[1], h)
    y, last = selective_scan(0 * x, 0 * dt + 1e30, A, B, C, h)
    assert torch.equal(last, torch.zeros_like(h)) and torch.equal(y, torch.zeros_like(y))


def exp2(library, numbers, wide):
    kind = ctypes.c_double if wide else ctypes.c_float
    x, y = (kind * len(numbers))(*numbers), (kind * len(numbers))()
    library.handle.mixerlens_exp2(library.level, wide, x, y, len(numbers))
    return list(x), list(y)


@pytest.mark.parametrize(("wide", "lowest", "highest", "digits"), [(False, -149, 128, 24), (True, -1074, 1024, 53)])
def test_powers_of_two_are_right_to_two_units_of_the_last_place(library, wide, lowest, highest, digits):
    draw = random.Random(0)
    numbers = [draw.uniform(lowest, highest - 1e-3) for _ in range(1500)]
    numbers += [draw.uniform(-1, 1) * 10 ** draw.uniform(-12, 0) for _ in range(500)]
    numbers += [lowest, lowest + 1, lowest + digits - 1, lowest + digits, -0.5, 0.5, 1, highest - 1]
    with localcontext() as context:
        context.prec = 40
        for x, got in zip(*exp2(library, numbers, wide), strict=True):
            exact = Decimal(2) ** Decimal(x)
            unit = Decimal(2) ** max(math.floor(x) - digits + 1, lowest)  # also where numbers are subnormal
            assert abs(Decimal(got) - exact) <= 2 * unit, x


@pytest.mark.parametrize("wide", [False, True])
def test_powers_of_two_at_the_ends(library, wide):
    largest = 1.7e308 if wide else 3.4e38
    given = [0.0, -0.0, -math.inf, -largest, -5000.0, math.inf, largest, 5000.0, math.nan]
    got = exp2(library, given, wide)[1]
    assert got[:8] == [1, 1, 0, 0, 0, math.inf, math.inf, math.inf] and math.isnan(got[8])


@pytest.fixture
def two_threads(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(scan, "SHARE", 1)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_threads_share_sequences_or_channels(library, two_threads, batch):
    given = arguments(batch, 130, 50, 4)
    got = everything(selective_scan, given)
    assert scan._shares(given[0], 4) == (2 if batch == 1 else 1, 2)
    for name, a, b in zip(NAMES, got, everything(plain, given), strict=True):
        assert relative(a, b) < 1e-13, name


def test_more_threads_than_there_is_work(library, monkeypatch):
    monkeypatch.setattr(scan, "_shares", lambda x, state: (100, 1000))
    given = arguments(1, 20, 40, 2)
    for a, b in zip(everything(selective_scan, given), everything(plain, given), strict=True):
        assert relative(a, b) < 1e-13


def test_two_python_threads_at_once(library):
    cases = [arguments(2, 200, 30, 4, torch.float32) for _ in range(2)]
    alone = [everything(selective_scan, given) for given in cases]
    wrong = []

    def again(given, want):
        for _ in range(20):
            if not all(torch.equal(a, b) for a, b in zip(everything(selective_scan, given), want, strict=True)):
                wrong.append(given)

    threads = [threading.Thread(target=again, args=pair) for pair in zip(cases, alone, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
