"""What every test of an evolution draws: sizes, random tensors in double precision, decays in either form."""

from __future__ import annotations

import torch
from torch import Tensor

BATCH, HEADS, WIDTH = 2, 3, 2

Leaves = dict[str, Tensor]


def randn(*shape: int, complex_: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128 if complex_ else torch.float64)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(*shape, dtype=torch.float64)


def unit(x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def lower(x: Tensor, precision: str) -> Tensor:
    """x as the library is given it."""
    if precision == "double":
        return x
    return x.to(torch.complex64 if x.is_complex() else torch.float32)


def raise_(x: Tensor) -> Tensor:
    """The same numbers as the plain recurrence is given them."""
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def decays(p: Leaves) -> Tensor:
    """The decays a themselves, however the library is given them."""
    return p["a"] if "a" in p else p["g"].exp()


def given(p: Leaves) -> Leaves:
    """The decays as the library is given them."""
    return {"decay": p["a"]} if "a" in p else {"log_decay": p["g"]}
