"""The trainable selective scan against the plain recurrence: values, last state, every gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mixerlens.errors import InputError
from mixerlens.scans import mamba, selective_scan, walk

from . import case

NAMES = ("x", "dt", "A", "B", "C", "initial_state")


def arguments(batch, time, channels, state, dtype=torch.float64, decay=1.0):
    x, B, C = (torch.randn(batch, time, size, dtype=dtype) for size in (channels, state, state))
    dt = F.softplus(torch.randn(batch, time, channels, dtype=dtype))
    A = -decay * torch.exp(torch.randn(channels, state, dtype=dtype))
    return [x, dt, A, B, C, torch.randn(batch, channels, state, dtype=dtype)]


@pytest.mark.parametrize("time", [1, 2, 15, 16, 17, 37, 100])
def test_values_state_and_gradients_are_the_recurrences(time):
    given = [tensor.requires_grad_() for tensor in arguments(2, time, 5, 3)]
    got, want = selective_scan(*given), case.selective(*given)
    weights = [torch.randn_like(tensor) for tensor in want]
    gradients = [
        torch.autograd.grad(sum((w * out).sum() for w, out in zip(weights, outputs, strict=True)), given)
        for outputs in (got, want)
    ]
    for name, a, b in zip(("y", "state", *NAMES), (*got, *gradients[0]), (*want, *gradients[1]), strict=True):
        assert case.relative(a, b) < 1e-13, name


@pytest.mark.parametrize(
    ("forward", "backward"), [((1, 1), (1, 1)), ((1, 1), (10**6, 8)), ((200, 2), (64, 3)), ((10**6, 1), (500, 2))]
)
@pytest.mark.parametrize("kept", [1, 10**6])
def test_tiles_and_segments_do_not_matter(monkeypatch, forward, backward, kept):
    given = [tensor.requires_grad_() for tensor in arguments(3, 90, 5, 2)]
    want = case.selective(*given)
    for name, size in (("FORWARD", forward), ("BACKWARD", backward), ("KEPT", kept)):
        monkeypatch.setattr(mamba, name, size)
    got = selective_scan(*given)
    results = [(*out, *torch.autograd.grad(out[0].square().sum() + out[1].sum(), given)) for out in (got, want)]
    for name, a, b in zip(("y", "state", *NAMES), *results, strict=True):
        assert case.relative(a, b) < 1e-13, name


def test_two_pieces_joined_by_the_state_are_the_whole():
    x, dt, A, B, C, h = arguments(2, 23, 4, 3)
    whole, last = selective_scan(x, dt, A, B, C, h)
    first, middle = selective_scan(x[:, :9], dt[:, :9], A, B[:, :9], C[:, :9], h)
    second, end = selective_scan(x[:, 9:], dt[:, 9:], A, B[:, 9:], C[:, 9:], middle)
    assert case.relative(torch.cat([first, second], 1), whole) < 1e-14
    assert case.relative(end, last) < 1e-14


@pytest.mark.parametrize("decay", [1e-6, 1.0, 1e4])
def test_float32_rounds_like_the_recurrence_and_stays_finite(decay):
    given = [tensor.requires_grad_() for tensor in arguments(2, 300, 8, 4, torch.float32, decay)]
    y, state = selective_scan(*given)
    assert case.relative(y.double(), case.selective(*(tensor.double() for tensor in given))[0]) < 3e-6
    for gradient in torch.autograd.grad(y.sum() + state.sum(), given):
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(
    ("rate", "step", "constant", "bound"),
    [(1.0, 1e-2, False, 6e-7), (0.0, 1e-1, False, 5e-6), (1.0, 1e-5, False, 3e-5), (0.0, 1e-3, True, 3e-4)],
)
def test_float32_at_16384_tokens_is_as_near_as_stated_and_as_any_float32_recurrence(rate, step, constant, bound):
    x, B, C = (torch.ones(1, 16384, 2) if constant else torch.randn(1, 16384, 2) for _ in range(3))
    dt = step * (torch.ones_like(x) if constant else torch.exp(0.5 * torch.randn_like(x)))
    given = [x, dt, -rate * torch.tensor([[1.0, 2.0], [3.0, 4.0]]), B, C, torch.zeros(1, 2, 2)]
    with torch.no_grad():
        want = case.selective(*(tensor.double() for tensor in given))[0]
        found = case.relative(selective_scan(*given)[0].double(), want)
        usual = case.relative(case.selective(*given)[0].double(), want)
    assert found < min(bound, 2 * usual + 1e-7)


def test_no_initial_state_is_a_state_of_zeros():
    x, dt, A, B, C, h = arguments(2, 7, 4, 3)
    assert torch.equal(selective_scan(x, dt, A, B, C)[0], selective_scan(x, dt, A, B, C, torch.zeros_like(h))[0])


def test_strided_arguments_are_read_as_they_are():
    x, dt, A, B, C, _ = arguments(2, 9, 4, 3)
    strided = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (x, dt, B, C)]
    want = selective_scan(x, dt, A, B, C)[0]
    assert torch.equal(selective_scan(strided[0], strided[1], A.T.contiguous().T, *strided[2:])[0], want)


@pytest.mark.parametrize("index", range(1, 6))
def test_shapes_and_dtypes_that_do_not_fit_are_refused(index):
    given = arguments(2, 7, 4, 3)
    wrong = list(given)
    wrong[index] = given[index][..., :-1] if index != 2 else given[index][:-1]
    with pytest.raises(InputError, match=NAMES[index]):
        selective_scan(*wrong)
    wrong[index] = given[index].to(torch.float32)
    with pytest.raises(InputError, match=f"{NAMES[index]} is torch.float32"):
        selective_scan(*wrong)
    if NAMES[index] != "initial_state":
        wrong[index] = None
        with pytest.raises(InputError, match=f"{NAMES[index]} is a NoneType: give a torch.Tensor"):
            selective_scan(*wrong)


def test_an_error_names_the_tensors_that_ask_for_a_shape():
    x, dt, A, B, C, _ = arguments(2, 7, 4, 3)
    with pytest.raises(InputError, match=r"A must be \(channels, state\) with the 4 channels of x, not \(3, 4\)"):
        selective_scan(x, dt, A.T, B, C)
    with pytest.raises(
        InputError, match=r"B must be \(2, 7, 3\) beside x of \(2, 7, 4\) and A of \(4, 3\), not \(2, 7, 2\)"
    ):
        selective_scan(x, dt, A, B[..., :2], C)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call:UserWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_scan_is_the_plain_one(backend):
    """Of several lengths, so that sizes are symbols for the compiler."""
    torch.compiler.reset()
    compiled = torch.compile(lambda *given: selective_scan(*given)[0], backend=backend)
    for time in (5, 9):
        given = [tensor.requires_grad_() for tensor in arguments(2, time, 4, 3)]
        with torch.no_grad():
            assert case.relative(compiled(*given), selective_scan(*given)[0]) < 1e-13
        ours, theirs = (
            torch.autograd.grad(way(*given).sum(), given) for way in (compiled, lambda *x: case.selective(*x)[0])
        )
        assert all(case.relative(a, b) < 1e-12 for a, b in zip(ours, theirs, strict=True))


def test_tensors_without_numbers_pass_through_both_ways():
    """What tools for shapes and memory do; nothing may look at a number, or keep what it found for later."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    walk._in_order.cache_clear()
    with FakeTensorMode():
        given = [torch.empty(x.shape, dtype=x.dtype, requires_grad=True) for x in arguments(2, 9, 4, 3)]
        found = torch.autograd.grad(selective_scan(*given)[0].sum(), given)
        assert [g.shape for g in found] == [x.shape for x in given]
    assert walk._in_order.cache_info().currsize == 0
