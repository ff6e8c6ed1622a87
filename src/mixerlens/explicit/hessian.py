"""The logit's Hessian between segments of the input, by one product with it a segment: no length x length matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..operator.fourier import size_for
from .layer import Block, Forward

__all__ = ["segment_curvature"]


def segment_curvature(
    forward: Forward, borders: tuple[int, ...], baseline: Float[Tensor, "time channels"]
) -> Float[Tensor, "segments segments"]:
    """u_g^T H u_g', u_g the input less the baseline on segment g and zero elsewhere, H at the input itself."""
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
    """The model once more, by operations that torch differentiates twice; its own convolution it does once."""
    x = forward.model.encoder(inputs)
    for block in forward.blocks:
        x = x + _block(block, block.layer.norm(x))
    return forward.weight @ x.mean(0) + forward.bias


def _block(block: Block, u: Tensor) -> Tensor:
    size = size_for(len(u))
    spectrum = torch.fft.rfft(u, size, dim=0) * torch.fft.rfft(block.kernel, size).T
    y = torch.fft.irfft(spectrum, size, dim=0)[: len(u)] + block.layer.s4d.D * u
    mixed = block.layer.output(block.layer.activation(y))
    return torch.nn.functional.glu(mixed, dim=-1) if block.layer.gated else mixed
