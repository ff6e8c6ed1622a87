"""The library against the torch path on the same random numbers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from mixerlens.native.library import library, without

BARS = {torch.float32: 1e-6, torch.float64: 1e-12}


class Difference(NamedTuple):
    """The largest difference between the two paths, over the largest number: of outputs, and of gradients."""

    dtype: str
    outputs: float
    gradients: float
    bar: float

    @property
    def holds(self) -> bool:
        return self.outputs <= self.bar and self.gradients <= self.bar  # NaN is not


def differences() -> list[Difference]:
    """One a dtype; none where there is no library."""
    return [] if library() is None else [_difference(dtype, bar) for dtype, bar in BARS.items()]


def _difference(dtype: torch.dtype, bar: float) -> Difference:
    from mixerlens.scans import selective_scan

    batch, time, channels, state = 2, 150, 37, 5  # no multiple of what is computed at once
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    x, B, C = (normal(batch, time, size) for size in (channels, state, state))
    dt, A, initial = normal(batch, time, channels).exp(), -normal(channels, state).exp(), normal(batch, channels, state)
    found = []
    for path in (nullcontext(), without()):
        with path:
            given = [tensor.clone().requires_grad_() for tensor in (x, dt, A, B, C, initial)]
            outputs = selective_scan(*given)
            found.append((outputs, torch.autograd.grad([out.square().sum() for out in outputs], given)))
    (outputs, gradients), (want, wanted) = found
    name = str(dtype).removeprefix("torch.")
    return Difference(name, _largest(outputs, want), _largest(gradients, wanted), bar)


def _largest(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> float:
    """NaN where there is one."""
    return float(
        torch.stack(
            [(a - b).detach().abs().max() / b.detach().abs().max() for a, b in zip(got, want, strict=True)]
        ).max()
    )
