"""The sweep over blocks as one differentiable function: the backward pass forms each block again, from the state that
entered it, so nothing but these states is kept and memory is linear in the length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.once import differentiable_once
from mixerlens.operator import blocks
from mixerlens.shapes import take_tokens


def wanted(d: CoefficientDynamics, *tensors: Tensor) -> bool:
    """Whether a derivative may be asked for."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in (*parameters(d), *tensors))


def parameters(d: CoefficientDynamics) -> list[Tensor]:
    """All tensors of the dynamics that enter the sweep, in the order of ``CoefficientDynamics.map``."""
    found: list[Tensor] = []
    d.map(lambda x: found.append(x) or x)
    return found


def sweep(d: CoefficientDynamics, values: Tensor, state: Tensor, *, transposed: bool) -> tuple[Tensor, Tensor]:
    """``blocks.sweep``, differentiable once in values, state and every tensor of d."""
    return _Sweep.apply(d, transposed, values, state, *parameters(d))  # pyright: ignore[reportReturnType]


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: CoefficientDynamics, transposed: bool, values: Tensor, state: Tensor, *tensors: Tensor):
        borders: list[Tensor] = []
        y, last = blocks.sweep(d.detach(), values, state, transposed=transposed, borders=borders)
        ctx.dynamics, ctx.transposed, ctx.count = d.detach(), transposed, len(tensors)
        ctx.save_for_backward(values, *tensors, *borders)
        return y, last

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        d, transposed = ctx.dynamics, ctx.transposed
        values, *rest = ctx.saved_tensors
        tensors, borders = rest[: ctx.count], rest[ctx.count :]
        grad_y, grad_state = grads
        _, _, need_values, _, *needed = ctx.needs_input_grad
        d = _with(d, iter(tensors))
        gradients = _Gradients(d, tensors, needed)
        grad_values = torch.zeros_like(values) if need_values else None
        order = blocks.spans(d, values.shape[-1])
        order = order[::-1] if transposed else order
        places = [gradients.of(lo, hi) for lo, hi in order]  # before there is anything in them
        for (lo, hi), place, border in reversed(list(zip(order, places, borders, strict=True))):
            leaves: list[Tensor] = []

            def leaf(x: Tensor, known: Iterator[Tensor | None], leaves: list[Tensor] = leaves) -> Tensor:
                x = x.detach()
                if next(known) is not None:
                    leaves.append(x.requires_grad_())
                return x

            with torch.enable_grad():
                known = iter(place)
                block = blocks.part(d, lo, hi).map(lambda x, known=known: leaf(x, known))
                v = values[:, :, lo:hi].detach().requires_grad_(need_values)
                entering = border.detach().requires_grad_()
                before = blocks.segment_before(d, lo)
                outputs, state = blocks.across(block, v, entering, before, transposed=transposed)
            inputs = [entering, *leaves, *([v] if need_values else [])]
            arriving = [blocks.arranged(grad_y[:, :, lo:hi], *piece) for piece in blocks.pieces(block)]
            arriving = [g.expand_as(y) for g, y in zip(arriving, outputs, strict=True)]
            found = torch.autograd.grad([*outputs, state], inputs, [*arriving, grad_state], allow_unused=True)
            grad_state = torch.zeros_like(border) if found[0] is None else found[0]
            for buffer, gradient in zip([p for p in place if p is not None], found[1:], strict=False):
                if gradient is not None:
                    buffer += gradient
            if grad_values is not None and found[-1] is not None:
                grad_values[:, :, lo:hi] = found[-1]
        return None, None, grad_values, grad_state, *gradients.whole


def _with(d: CoefficientDynamics, tensors: Iterator[Tensor]) -> CoefficientDynamics:
    return d.map(lambda _: next(tensors))


class _Gradients:
    """Where the gradients go: a second set of parameters, cut into blocks as the first one is."""

    def __init__(self, d: CoefficientDynamics, tensors: list[Tensor], needed: list[bool]) -> None:
        none = {id(x): x.new_zeros(1).expand(x.shape) for x in tensors}
        self.whole = [torch.zeros_like(x) if need else None for x, need in zip(tensors, needed, strict=True)]
        filled = (none[id(x)] if g is None else g for x, g in zip(tensors, self.whole, strict=True))
        self._query, self._key = next(filled), next(filled)
        self._scaling = None if d.scaling is None else next(filled)
        self._evolution = d.evolution.map(lambda _: next(filled))

    def of(self, lo: int, hi: int) -> list[Tensor | None]:
        """The gradients of a block's parameters as views, in the order of ``parameters``; None where none is wanted."""
        tensors = [take_tokens(x, lo, hi) for x in (self._query, self._key, self._scaling) if x is not None]
        self._evolution.take_tokens(lo, hi).map(lambda x: tensors.append(x) or x)
        owned = {g.untyped_storage().data_ptr() for g in self.whole if g is not None}
        return [x if x.untyped_storage().data_ptr() in owned else None for x in tensors]
