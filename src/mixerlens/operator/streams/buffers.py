"""Memory that is used again: a fresh temporary costs page faults, several times what it takes to fill it."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens import pages


class Buffers:
    """Flat tensors by name and dtype, as long as the longest that was asked for.

    A name is its owner's alone: who lends buffers to others gives each a space of its own, ``of``.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype], Tensor] = {}
        self._spaces: dict[str, Buffers] = {}

    def of(self, owner: str) -> Buffers:
        """Buffers that share no memory with these, nor with those of any other owner; the same whenever asked."""
        return self._spaces.setdefault(owner, Buffers())

    def take(self, name: str, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Uninitialised (shape) on the device of ``like``; what was taken under this name before is overwritten."""
        dtype = like.dtype if dtype is None else dtype
        count = torch.Size(shape).numel()
        held = self._held.get((name, dtype))
        if held is None or held.numel() < count or held.device != like.device:
            held = self._held[name, dtype] = pages.empty(count, dtype=dtype, device=like.device)
        return held[:count].view(shape)
