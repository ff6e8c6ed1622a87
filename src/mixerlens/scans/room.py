"""Buffers that one block after the other uses again."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Room:
    """room(name, *shape) is an uninitialised tensor; the same name gives the same memory again.

    A fresh tensor of this size would come from the operating system, at the price of a page fault every 4 KiB.
    """

    def __init__(self, like: Tensor) -> None:
        self._like, self._held = like, {}

    def __call__(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        size = math.prod(shape)
        if name not in self._held or self._held[name].numel() < size:
            self._held[name] = self._like.new_empty(size, dtype=dtype or self._like.dtype)
        return self._held[name][:size].view(shape)
