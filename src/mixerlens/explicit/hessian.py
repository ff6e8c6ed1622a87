"""The logit's Hessian between segments of the input, by one product with it a segment: no length x length matrix."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..operator.memory import require
from ..operator.toeplitz import convolve, correlate
from .layer import Forward

__all__ = ["segment_curvature"]

_COPIES = 64  # of (time, features) a block, at most: of the pass, its gradient and one product


def segment_curvature(
    forward: Forward, borders: tuple[int, ...], baseline: Float[Tensor, "time channels"]
) -> Float[Tensor, "segments segments"]:
    """u_g^T H u_g', u_g the input less the baseline on segment g and zero elsewhere, H at the input itself.

    Raises MemoryBudgetError where the graph of the pass would not fit.
    """
    shape = (len(forward.blocks), *forward.x.shape)
    require("the Hessian", *shape, dtype=torch.float64, copies=_COPIES, instead="explain without it")
    inputs = forward.inputs.clone().requires_grad_()
    moved = forward.inputs - baseline
    lengths = torch.tensor(borders, device=moved.device).diff()
    segment = torch.arange(len(lengths), device=moved.device).repeat_interleave(lengths)
    rows = []
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(_logit(forward, inputs), inputs, create_graph=True)
        gradient = gradient + 0 * inputs  # of a linear model it is a constant, which torch would not differentiate
        for g in range(len(lengths)):
            wave = moved * (segment == g)[:, None]
            (product,) = torch.autograd.grad(gradient, inputs, wave, retain_graph=True)
            rows.append(moved.new_zeros(len(lengths)).index_add_(0, segment, (product * moved).sum(1)))
    return torch.stack(rows)


def _logit(forward: Forward, inputs: Tensor) -> Tensor:
    """The model once more, with convolutions that can be differentiated twice; the layer's own can be once."""
    x = forward.model.encoder(inputs)
    for block in forward.blocks:
        layer = block.layer
        u = layer.norm(x)
        y: Any = _Convolution.apply(block.kernel, u, False)
        mixed = layer.output(layer.activation(y + layer.s4d.D * u))
        x = x + (torch.nn.functional.glu(mixed, dim=-1) if layer.gated else mixed)
    return forward.weight @ x.mean(0) + forward.bias


class _Convolution(torch.autograd.Function):
    """kernel * u, (time, features), or its adjoint: linear in u, each is the other's derivative at any order."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, u: Tensor, adjoint: bool) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.adjoint = adjoint
        return (correlate if adjoint else convolve)(kernel[None], u.T[None, ..., None])[0, ..., 0].T

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        (kernel,) = ctx.saved_tensors
        return None, _Convolution.apply(kernel, cotangent, not ctx.adjoint), None
