"""Mamba-2's scan against the plain recurrence and transformers: values, last state, every gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mixerlens.errors import InputError
from mixerlens.scans import ssd_parts, ssd_scan

from . import case

NAMES = ("x", "dt", "A", "B", "C", "initial_state")


@pytest.mark.parametrize("time", [1, 2, 63, 64, 65, 127, 200])
@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (4, 1), (3, 3)])
def test_values_state_and_gradients_are_the_recurrences(time, heads, groups):
    given = case.ssd_arguments(2, time, heads, 5, groups, 3)
    assert max(case.errors(ssd_scan, case.ssd, given)) < 1e-13


@pytest.mark.parametrize("matrices", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("block", [1, 3])
def test_how_the_work_is_cut_does_not_matter(monkeypatch, matrices, block):
    monkeypatch.setattr(ssd_parts, "MATRICES", matrices)
    monkeypatch.setattr(ssd_parts, "BLOCK", block)
    monkeypatch.setattr(ssd_parts, "CHUNK", 16)
    assert max(case.errors(ssd_scan, case.ssd, case.ssd_arguments(3, 90, 6, 2, 2, 3))) < 1e-13


def test_gradcheck():
    given = tuple(tensor.requires_grad_() for tensor in case.ssd_arguments(1, 70, 2, 2, 1, 2))
    assert torch.autograd.gradcheck(ssd_scan, given, fast_mode=True)
    given = tuple(tensor.detach()[:, :5].requires_grad_() if tensor.ndim > 1 else tensor for tensor in given[:5])
    assert torch.autograd.gradcheck(ssd_scan, given)


@pytest.mark.parametrize("kind", ["zero", "underflow", "reset", "slow"])
def test_decays_of_every_kind(kind):
    """dt = 0 leaves the state as it is; exp(dt A) underflows to 0; one token forgets all; nothing is forgotten."""
    x, dt, A, B, C, state = case.ssd_arguments(1, 150, 2, 3, 1, 4)
    if kind == "zero":
        dt = dt * (torch.rand_like(dt) > 0.5)
    if kind == "underflow":
        A = torch.tensor([-1e4, -800.0], dtype=A.dtype)
    if kind == "reset":
        dt[:, 70] = 1e4
    if kind == "slow":
        A = torch.tensor([-1e-9, 0.0], dtype=A.dtype)
    found = case.errors(ssd_scan, case.ssd, [x, dt, A, B, C, state])
    # with every decay 0 the gradient of A is 0 as well: nothing to be relative to
    assert max(error for name, error in zip(("y", "last", *NAMES), found, strict=True) if error) < 1e-12


def test_two_pieces_joined_by_the_state_are_the_whole():
    x, dt, A, B, C, state = case.ssd_arguments(2, 150, 4, 3, 2, 3)
    whole, last = ssd_scan(x, dt, A, B, C, state)
    first, middle = ssd_scan(x[:, :67], dt[:, :67], A, B[:, :67], C[:, :67], state)
    second, end = ssd_scan(x[:, 67:], dt[:, 67:], A, B[:, 67:], C[:, 67:], middle)
    assert case.relative(torch.cat([first, second], 1), whole) < 1e-14
    assert case.relative(end, last) < 1e-14


def test_no_token_leaves_the_state():
    x, dt, A, B, C, state = case.ssd_arguments(2, 0, 4, 3, 2, 3)
    y, last = ssd_scan(x, dt, A, B, C, state)
    assert y.shape == x.shape
    assert torch.equal(last, state)
    assert not ssd_scan(x, dt, A, B, C)[1].any()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 1e-6, 1e-3, 1.0, 16.0])
@pytest.mark.parametrize("constant", [False, True])
def test_float32_at_65536_tokens(rate, constant):
    """At most 5.1e-7 where measured: the state is carried in float64, so chunks add no error up."""
    given = case.ssd_arguments(1, 65536, 2, 4, 1, 8, torch.float32)[:5]
    if constant:  # all errors have the same sign
        given = [torch.ones_like(tensor) for tensor in given]
    given[2] = torch.full((2,), -rate)
    state = torch.zeros(1, 2, 8, 4, dtype=torch.float64)
    with torch.no_grad():
        want = case.ssd(*(tensor.double() for tensor in given), state)
        for got, expected in zip(ssd_scan(*given), want, strict=True):
            assert case.relative(got.double(), expected) < 1e-6


def test_float32_gradients():
    given = case.ssd_arguments(1, 1000, 4, 8, 2, 8, torch.float32, rate=0.1)
    wide = [tensor.double().requires_grad_() for tensor in given]
    given = [tensor.requires_grad_() for tensor in given]
    got = torch.autograd.grad(ssd_scan(*given)[0].square().sum(), given)
    want = torch.autograd.grad(case.ssd(*wide)[0].square().sum(), wide)
    for name, a, b in zip(NAMES, got, want, strict=True):
        assert case.relative(a.double(), b) < 3e-6, name


def test_transformers_agrees():
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    x, dt, A, B, C, _ = case.ssd_arguments(2, 300, 4, 8, 2, 16, torch.float32)
    want, last = mamba2_chunk_scan(x, dt, A, B, C, chunk_size=64, return_final_states=True)
    y, state = ssd_scan(x, dt, A, B, C)
    assert case.relative(y, want) < 3e-6  # that scan's own masks are exponentials of float32 sums
    assert case.relative(state.mT, last) < 3e-6


def test_arguments_are_left_as_they_are_and_the_graph_can_be_walked_twice():
    given = case.ssd_arguments(1, 70, 4, 3, 2, 3)
    before = [tensor.clone() for tensor in given]
    y, _ = ssd_scan(*(tensor.requires_grad_() for tensor in given))
    first = torch.autograd.grad(y.sum(), given, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(y.sum(), given), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))


def test_what_does_not_fit_is_refused():
    x, dt, A, B, C, state = case.ssd_arguments(2, 7, 6, 5, 2, 3)
    wrong = {"dt": dt[:, :-1], "A": A[:-1], "C": C[..., :-1], "initial_state": state.mT}
    for name, tensor in wrong.items():
        arguments = {"x": x, "dt": dt, "A": A, "B": B, "C": C, "initial_state": state, name: tensor}
        with pytest.raises(InputError, match=f"{name} must be"):
            ssd_scan(**arguments)
    for name in ("x", "dt", "A", "B", "C"):
        with pytest.raises(InputError, match=f"{name} is a NoneType: give a torch.Tensor"):
            ssd_scan(**{"x": x, "dt": dt, "A": A, "B": B, "C": C, name: None})
    with pytest.raises(InputError, match=r"dt is torch\.float32"):
        ssd_scan(x, dt.float(), A, B, C)
    with pytest.raises(InputError, match="groups of B and C, 2, must divide the 5 heads"):
        ssd_scan(x[:, :, :5], dt[..., :5], A[:5], B, C)
    with pytest.raises(InputError, match="must be float32 or float64"):
        ssd_scan(*(tensor.half() for tensor in (x, dt, A, B, C)))
    with pytest.raises(InputError, match=r"x must be \(batch, time, heads, head_dim\)"):
        ssd_scan(F.pad(x[0], (0, 1)), dt, A, B, C)


def test_states_that_grow_stay_in_range():
    """e^(0.1 * 1024) is no float32, but what comes late has not grown by so much."""
    x, dt, _, B, C, _ = case.ssd_arguments(1, 1024, 2, 3, 1, 4, torch.float32)
    x, dt, A = torch.cat([torch.zeros_like(x[:, :924]), x[:, 924:]], 1), torch.ones_like(dt), torch.full((2,), 0.1)
    want = case.ssd(*(t.double() for t in (x, dt, A, B, C)), torch.zeros(1, 2, 4, 3).double())
    for got, expected in zip(ssd_scan(x, dt, A, B, C), want, strict=True):
        assert case.relative(got.double(), expected) < 1e-5  # A itself is rounded: 100 tokens grow by it
