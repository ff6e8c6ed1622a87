"""Backward passes that cannot be differentiated again, and say so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Barrier(torch.autograd.Function):
    """The gradient itself, as a function of something that requires a gradient; its own backward pass refuses."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor):
        raise RuntimeError(
            "mixerlens' scans and operators are differentiable once: for a gradient of their gradients "
            "write the recurrence out, or take it on a small case from the coefficients by finite differences"
        )


def differentiable_once(backward: Callable[..., tuple[Tensor | None, ...]]) -> Callable[..., tuple[Tensor | None, ...]]:
    """A backward pass (of a torch.autograd.Function) without a graph of its own.

    torch's own decorator drops the graph, silently, where the incoming gradient has none (that of a sum, say): a
    penalty on such a gradient would train on wrong numbers. Under create_graph all gradients here carry a node that
    raises RuntimeError when somebody differentiates through it.
    """

    @functools.wraps(backward)
    def run(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():
            return found
        leaf = torch.empty(0, requires_grad=True)
        return tuple(g if g is None else _Barrier.apply(g, leaf) for g in found)

    return run
