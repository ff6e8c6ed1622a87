"""Delta rules whose impulses are their directions (DeltaNet), against the plain recurrence and the general solve."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta

from . import plain

DECAYS = ["none", "gated", "negative", "closed"]


def system(time: int, decay: str = "none", correlated: float = 0.0, groups: int = 3):
    """Query, key, beta, the decay as the library takes it, and A_t; two sequences of three heads, dim 5."""
    torch.manual_seed(time)
    key = normalize(torch.randn(2, time, groups, 5).double() + correlated, dim=-1)
    query, beta = torch.randn(2, time, groups, 5).double(), 1.99 * torch.rand(2, time, 3).double()
    given, a = {}, torch.ones(2, time, 3).double()
    if decay == "gated":
        given["log_decay"] = -torch.rand(2, time, 3).double()
    if decay == "closed":
        given["log_decay"] = torch.where(torch.rand(2, time, 3) < 0.1, -torch.inf, -0.1).double()
    if decay == "negative":
        given["decay"], a = (torch.tensor([0.99, 0.5, -0.8]).double(),) * 2
    a = given["log_decay"].exp() if "log_decay" in given else a.expand(2, time, 3)
    k = key.repeat_interleave(3 // groups, 2)
    erase = torch.eye(5).double() - beta[..., None, None] * k[..., :, None] * k[..., None, :]
    return query, key, beta, given, a[..., None, None] * erase


@pytest.mark.parametrize("time", [1, 2, 31, 32, 33, 100])
@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("groups", [1, 3])
def test_coefficients_are_those_of_the_recurrence(decay, time, groups):
    query, key, beta, given, A = system(time, decay, groups=groups)
    d = CoefficientDynamics(query, key, Delta(key, beta, **given), scaling=beta)
    want = plain.scores(A, *(x.repeat_interleave(3 // groups, 2) for x in (query, key)), beta)
    got = d.operator().to_dense()
    assert float((got - want).abs().max() / want.abs().max()) < 1e-12
    v = torch.randn(2, time, 3, 2).double()
    assert torch.allclose(d.operator() @ v, (want @ v.transpose(1, 2)).transpose(1, 2), rtol=0, atol=1e-11)


@pytest.mark.parametrize("correlated", [0.0, 3.0])
def test_single_precision(correlated):
    query, key, beta, given, _ = (
        x.float() if isinstance(x, torch.Tensor) else x for x in system(300, "none", correlated)
    )
    _, k = query, key.double()
    A = torch.eye(5).double() - beta.double()[..., None, None] * k[..., :, None] * k[..., None, :]
    d = CoefficientDynamics(query, key, Delta(key, beta, **given), scaling=beta)
    want = plain.scores(A, query.double(), k, beta.double())
    assert float((d.operator().to_dense() - want).abs().max() / want.abs().max()) < 1e-6


def test_gradients_still_tell_impulses_from_directions():
    query, key, beta, _, _ = system(40)
    key, direction = key.requires_grad_(), key.detach().clone().requires_grad_()
    d = CoefficientDynamics(query, key, Delta(direction, beta), scaling=beta)
    v = torch.randn(2, 40, 3, 2).double()
    got = torch.autograd.grad((d.operator() @ v).square().sum(), [key, direction])
    A = torch.eye(5).double() - beta[..., None, None] * direction[..., :, None] * direction[..., None, :]
    y = plain.scores(A, query, key, beta) @ v.transpose(1, 2)
    for a, b in zip(got, torch.autograd.grad(y.square().sum(), [key, direction]), strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < 1e-10


@pytest.mark.parametrize("name", ["query", "beta", "log_decay", "scaling", "value"])
def test_gradients_by_everything_else(name):
    query, key, beta, given, _ = system(40, "gated")
    leaves = {"query": query, "beta": beta, "log_decay": given["log_decay"], "scaling": beta.clone()}
    leaves["value"] = torch.randn(2, 40, 3, 2).double()
    leaf = leaves[name].requires_grad_()
    evolution = Delta(key, leaves["beta"], log_decay=leaves["log_decay"])
    d = CoefficientDynamics(leaves["query"], key, evolution, scaling=leaves["scaling"])
    got = torch.autograd.grad((d.operator() @ leaves["value"]).square().sum(), leaf)[0]
    erase = torch.eye(5).double() - leaves["beta"][..., None, None] * key[..., :, None] * key[..., None, :]
    A = leaves["log_decay"].exp()[..., None, None] * erase
    y = plain.scores(A, leaves["query"], key, leaves["scaling"]) @ leaves["value"].transpose(1, 2)
    want = torch.autograd.grad(y.square().sum(), leaf)[0]
    assert float((got - want).abs().max() / want.abs().max()) < 1e-10
    assert torch.isfinite(d.factors(0, 5).intra).all()
