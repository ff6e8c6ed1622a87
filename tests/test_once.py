"""What is differentiable once refuses a second time, whatever the first gradient came from."""

from __future__ import annotations

import pytest
import torch

import mixerlens as ml
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Scalar


def selective(x):
    step, row = torch.rand(1, 9, 3), torch.randn(1, 9, 2)
    return ml.scans.selective_scan(x[:, :, 0], step, -torch.rand(3, 2), row, row)[0]


def ssd(x):
    step, row = torch.rand(1, 9, 1), torch.randn(1, 9, 1, 2)
    return ml.scans.ssd_scan(x, step, -torch.rand(1), row, row)[0]


def delta(x):
    row = torch.randn(1, 9, 1, 2)
    return ml.scans.gated_delta_scan(row, row, x, None, torch.rand(1, 9, 1))[0]


def operator(x):
    row = torch.randn(1, 9, 1, 2)
    return CoefficientDynamics(row, row, Scalar(decay=torch.rand(1, 9, 1).requires_grad_())).operator() @ x


def convolution(x):
    row = torch.randn(1, 1, 1, 2)
    return CoefficientDynamics(row, row, Scalar(decay=torch.tensor(0.9)), length=9).operator() @ x


@pytest.mark.parametrize("call", [selective, ssd, delta, operator, convolution])
def test_a_gradient_of_gradients_is_refused(call):
    torch.manual_seed(0)
    x = torch.randn(1, 9, 1, 3, requires_grad=True)
    (plain,) = torch.autograd.grad(call(x).sum(), x)
    torch.manual_seed(0)
    x = torch.randn(1, 9, 1, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(call(x).sum(), x, create_graph=True)  # of a sum: nothing comes with a graph
    assert not plain.requires_grad
    assert torch.equal(plain, gradient)
    with pytest.raises(RuntimeError, match="differentiable once"):
        gradient.square().sum().backward()
