"""What the tests of families draw and how they compare."""

from __future__ import annotations

import torch
from torch import Tensor


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def error(got: Tensor, want: Tensor) -> float:
    """Largest |got - want| relative to the largest |want|; what is not finite is no result."""
    assert got.shape == want.shape
    assert torch.isfinite(torch.view_as_real(got) if got.is_complex() else got).all()
    return float((got - want).detach().abs().max() / want.detach().abs().max())
