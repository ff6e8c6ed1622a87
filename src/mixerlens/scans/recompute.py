"""One autograd.Function for scans that go block by block: only the states between blocks are kept.

The backward pass walks the blocks in reverse, runs each one again under autograd on its own slice and writes the
slice's gradients in place, so memory is that of one block beside the arguments, and time is linear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Block = Callable[..., tuple[Tensor, Tensor]]


class Recomputed(torch.autograd.Function):
    """apply(block, length, constants, state, *arguments): block(state, *slices) -> (output slice, next state).

    Of the arguments, the first `constants` have no time axis; the others are cut along axis 1 in pieces of `length`.
    """

    @staticmethod
    def forward(ctx: Any, block: Block, length: int, constants: int, state: Tensor, *arguments: Tensor):
        borders, pieces = [], []
        for span in _spans(arguments[-1].shape[1], length):
            borders.append(state)
            y, state = block(state, *_cut(arguments, constants, span))
            pieces.append(y)
        ctx.block, ctx.length, ctx.constants, ctx.count = block, length, constants, len(arguments)
        ctx.save_for_backward(*arguments, *borders)
        return torch.cat(pieces, 1), state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):
        grad_y, adjoint = gradients
        arguments, borders = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        wanted = ctx.needs_input_grad[4:]
        collected = [
            torch.zeros_like(argument) if want else None for argument, want in zip(arguments, wanted, strict=True)
        ]
        spans = _spans(arguments[-1].shape[1], ctx.length)
        for span, border in zip(reversed(spans), reversed(borders), strict=True):
            cut = _cut(arguments, ctx.constants, span)
            leaves = [tensor.detach().requires_grad_(want) for tensor, want in zip(cut, wanted, strict=True)]
            start = border.detach().requires_grad_()
            with torch.enable_grad():
                outputs = ctx.block(start, *leaves)
            asked = [start, *(leaf for leaf in leaves if leaf.requires_grad)]
            adjoint, *parts = torch.autograd.grad(outputs, asked, (grad_y[:, span], adjoint))
            into = _cut(collected, ctx.constants, span)
            for target, part in zip((target for target in into if target is not None), parts, strict=True):
                target.add_(part)
        return None, None, None, adjoint, *collected


def _spans(time: int, length: int) -> list[slice]:
    return [slice(start, min(start + length, time)) for start in range(0, time, length)]


def _cut(tensors, constants: int, span: slice):
    return [t if i < constants or t is None else t[:, span] for i, t in enumerate(tensors)]
