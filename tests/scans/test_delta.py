"""The gated delta rule's scan against the plain recurrence and transformers: values, last state, every gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mixerlens.errors import InputError
from mixerlens.scans import delta, delta_blocks, gated_delta_scan

from . import case

BOTH = pytest.mark.parametrize("gated", [False, True])


@BOTH
@pytest.mark.parametrize("time", [1, 2, 31, 32, 33, 100])
@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (4, 1), (3, 3)])
def test_values_state_and_gradients_are_the_recurrences(gated, time, heads, groups):
    given = case.delta_arguments(2, time, heads, 5, groups, 4, gated=gated)
    assert max(case.errors(gated_delta_scan, case.gated_delta, given)) < 1e-12


@BOTH
@pytest.mark.parametrize("matrices", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_how_the_work_is_cut_and_what_is_kept_do_not_matter(monkeypatch, gated, matrices, kept):
    for module, name, value in (
        (delta_blocks, "MATRICES", matrices),
        (delta_blocks, "CHUNK", 8),
        (delta, "KEPT", kept),
    ):
        monkeypatch.setattr(module, name, value)
    given = case.delta_arguments(3, 60, 6, 2, 2, 3, gated=gated)
    assert max(case.errors(gated_delta_scan, case.gated_delta, given)) < 1e-12


@BOTH
def test_gradcheck(gated):
    given = case.delta_arguments(1, 40, 2, 2, 1, 3, gated=gated)
    for tensor in given:
        if tensor is not None:
            tensor.requires_grad_()
    assert torch.autograd.gradcheck(gated_delta_scan, tuple(given), fast_mode=True)
    short = [None if t is None else t.detach()[:, :5].requires_grad_() for t in given[:5]]
    assert torch.autograd.gradcheck(gated_delta_scan, tuple(short))


@pytest.mark.parametrize("kind", ["nothing is written", "underflow", "reset", "hard reset", "reflections"])
def test_hostile_arguments(kind):
    query, key, value, log_decay, beta, state = case.delta_arguments(1, 150, 2, 3, 1, 4)
    if kind == "nothing is written":
        beta = torch.zeros_like(beta)
    if kind == "underflow":
        log_decay = log_decay * 2000
    if kind == "reset":
        log_decay[:, 70] = -1e4
    if kind == "hard reset":
        log_decay[:, 70] = -torch.inf
    if kind == "reflections":  # beta = 2 on keys that nearly agree
        key, beta = F.normalize(key + 3 * torch.randn(1, 1, 1, 4, dtype=key.dtype), dim=-1), torch.full_like(beta, 2.0)
    given = [query, key, value, log_decay, beta, state]
    assert max(case.errors(gated_delta_scan, case.gated_delta, given)) < 1e-12


def test_two_pieces_joined_by_the_state_are_the_whole():
    given = case.delta_arguments(2, 100, 4, 3, 2, 3)
    *tensors, state = given
    whole, last = gated_delta_scan(*given)
    first, middle = gated_delta_scan(*(tensor[:, :37] for tensor in tensors), state)
    second, end = gated_delta_scan(*(tensor[:, 37:] for tensor in tensors), middle)
    assert case.relative(torch.cat([first, second], 1), whole) < 1e-14
    assert case.relative(end, last) < 1e-14


def test_no_token_leaves_the_state():
    *tensors, state = case.delta_arguments(2, 0, 4, 3, 2, 3)
    y, last = gated_delta_scan(*tensors, state)
    assert y.shape == tensors[2].shape
    assert torch.equal(last, state)
    assert not gated_delta_scan(*tensors)[1].any()


@pytest.mark.slow
@pytest.mark.parametrize("gate", [None, 1e-4, 0.1, 20.0])
@pytest.mark.parametrize("beta", [1.0, 1.9, 2.0, None])
@pytest.mark.parametrize("correlation", [0.0, 3.0])
def test_float32_at_16384_tokens(gate, beta, correlation):
    """At most 7e-7 where measured, also for reflections (beta = 2) on correlated keys, which forget nothing."""
    query, key, value, log_decay, drawn, _ = case.delta_arguments(1, 16384, 2, 8, 2, 16, torch.float32)
    key = F.normalize(key + correlation * F.normalize(torch.randn(1, 1, 2, 16), dim=-1), dim=-1)
    log_decay = None if gate is None else log_decay * gate
    given = [query, key, value, log_decay, drawn if beta is None else torch.full_like(drawn, beta)]
    wide = (None if tensor is None else tensor.double() for tensor in (*given, torch.zeros(1, 2, 16, 8)))
    for got, want in zip(gated_delta_scan(*given), case.gated_delta(*wide), strict=True):
        assert case.relative(got.double(), want) < 1e-6


def test_float32_gradients():
    given = case.delta_arguments(1, 1000, 4, 8, 2, 8, torch.float32)
    wide = [tensor.double().requires_grad_() for tensor in given]
    given = [tensor.requires_grad_() for tensor in given]
    got = torch.autograd.grad(gated_delta_scan(*given)[0].square().sum(), given)
    want = torch.autograd.grad(case.gated_delta(*wide)[0].square().sum(), wide)
    for a, b in zip(got, want, strict=True):
        assert case.relative(a.double(), b) < 3e-6


def test_transformers_agrees():
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

    query, key, value, log_decay, beta, state = case.delta_arguments(2, 300, 4, 8, 2, 16, torch.float32)
    want, last = torch_chunk_gated_delta_rule(
        query, key, value, log_decay, beta / 2, initial_state=state, output_final_state=True
    )
    y, end = gated_delta_scan(query / 4, key, value, log_decay, beta / 2, state)  # it scales by 16 ** -0.5
    assert case.relative(y, want) < 3e-6
    assert case.relative(end, last) < 3e-6


@BOTH
def test_arguments_are_left_as_they_are_and_the_graph_can_be_walked_twice(gated):
    given = case.delta_arguments(1, 1, 4, 3, 2, 3, gated=gated)
    leaves = [tensor.requires_grad_() for tensor in given if tensor is not None]
    before = [tensor.clone() for tensor in leaves]
    y, _ = gated_delta_scan(*given)
    first = torch.autograd.grad(y.sum(), leaves, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(y.sum(), leaves), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, leaves, strict=True))


def test_what_does_not_fit_is_refused():
    names = ("query", "key", "value", "log_decay", "beta", "initial_state")
    given = dict(zip(names, case.delta_arguments(2, 7, 6, 5, 2, 3), strict=True))
    for name in ("query", "log_decay", "beta", "initial_state"):
        with pytest.raises(InputError, match=f"{name} must be"):
            gated_delta_scan(**{**given, name: given[name][..., :-1]})
    for name in ("query", "key", "value", "beta"):
        with pytest.raises(InputError, match=f"{name} is a NoneType: give a torch.Tensor"):
            gated_delta_scan(**{**given, name: None})
    with pytest.raises(InputError, match=r"beta is torch\.float32"):
        gated_delta_scan(**{**given, "beta": given["beta"].float()})
    with pytest.raises(InputError, match="groups of query and key, 2, must divide the 5 heads"):
        gated_delta_scan(**{**given, "value": given["value"][:, :, :5]})
