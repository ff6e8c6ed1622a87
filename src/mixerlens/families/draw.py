"""Seeded random arguments, so that every row of the registry can be measured again."""

from __future__ import annotations

import torch
from torch import Tensor


class Draw:
    """Random float64 tensors of one small mixer: batch 2, time 41, heads 3, dim 4, value_dim 3.

    The sizes differ, so that a confused axis is an error, and time is prime and at least four times any state here.
    """

    batch, time, heads, dim, width = 2, 41, 3, 4, 3

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, dtype=torch.float64, generator=self._generator)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers between low and high."""
        return low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=self._generator)

    def complex(self, *shape: int) -> Tensor:
        """Complex numbers with standard normal parts."""
        return torch.complex(self.normal(*shape), self.normal(*shape))

    def vectors(self, dim: int | None = None, heads: int | None = None) -> Tensor:
        """Queries, keys: (batch, time, heads, dim), normal."""
        return self.normal(self.batch, self.time, heads or self.heads, dim or self.dim)

    def units(self, dim: int | None = None, heads: int | None = None) -> Tensor:
        """Vectors of length one."""
        x = self.vectors(dim, heads)
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)

    def gates(self, *trailing: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(batch, time, heads, *trailing) between low and high."""
        return self.uniform(self.batch, self.time, self.heads, *trailing, low=low, high=high)

    def log_decays(self, *trailing: int, most: float = 0.7) -> Tensor:
        """(batch, time, heads, *trailing) between -most and 0."""
        return -self.gates(*trailing, high=most)

    def values(self, width: int | None = None, heads: int | None = None) -> Tensor:
        """(batch, time, heads, value_dim), normal."""
        return self.vectors(width or self.width, heads)
