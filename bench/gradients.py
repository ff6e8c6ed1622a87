"""Forward and backward of a contender as one call, and the same of a float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.case import Inputs, Outputs


def leaves(given: Inputs, names: Sequence[str]) -> Inputs:
    """The inputs with the named ones as leaves that want a gradient."""
    return given | {name: given[name].detach().clone().requires_grad_() for name in names}


def forward_backward(
    forward: Callable[[Inputs], Tensor], names: Sequence[str], cotangent: str = "grad"
) -> Callable[[Inputs], Outputs]:
    """A run: the gradients of <forward(inputs), inputs[cotangent]> in the named inputs, which are leaves."""

    def run(given: Inputs) -> Outputs:
        y = forward(given)
        return torch.autograd.grad(y, [given[name] for name in names], given[cotangent])

    return run


def exact_gradients(
    forward: Callable[[Inputs], Tensor], names: Sequence[str], cotangent: str = "grad"
) -> Callable[[Inputs], Outputs]:
    """The same in float64 of a reference."""
    run = forward_backward(forward, names, cotangent)
    return lambda given: run(leaves(double(given), names))


def double(given: Inputs) -> Inputs:
    """Every floating tensor of the inputs in float64 or complex128."""

    def wide(x):
        if not isinstance(x, Tensor):
            return x
        return x.to(torch.complex128 if x.is_complex() else torch.float64)

    return {name: wide(x) for name, x in given.items()}
