"""Mamba-2's state on its way over the chunks of a block."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.scans.room import Room


class State:
    """A state, (batch, groups, state, heads a group * dim), that one chunk after the other forgets and adds to.

    `wide` is the state before the block, in float64; what the block's chunks add to it is in the arguments' dtype. So
    rounding does not add up over the sequence (carried in float32, a sequence of 65536 tokens that forgets little is
    off by 1.6e-6), and float64 is met once a block.
    """

    def __init__(self, wide: Tensor, heads: int, room: Room, name: str) -> None:
        self.wide, self._heads = wide, heads
        self._base, self._added, self._now = (room(f"{name} {part}", *wide.shape) for part in ("base", "added", "now"))
        self._decay: Tensor | None = None  # of the block so far
        self._widened = room("widened", *wide.shape, dtype=wide.dtype)

    def open(self) -> None:
        self._base.copy_(self.wide)
        self._decay = None

    def now(self) -> Tensor:
        """The state after the last step, in the arguments' dtype; valid until the next one."""
        if self._decay is None:
            return self._base
        decay = self._decay.to(self._now.dtype)
        torch.addcmul(self.by_head(self._added), self.by_head(self._base), decay, out=self.by_head(self._now))
        return self._now

    def step(self, total: Tensor, key: Tensor, value: Tensor) -> None:
        """S becomes total S + key^T value: total (batch, groups, heads), value (batch, groups, chunk, heads * dim)."""
        total = total[:, :, None, :, None]
        if self._decay is None:
            torch.matmul(key.mT, value, out=self._added)
        else:
            self.by_head(self._added).mul_(total.to(key.dtype))
            self._added.flatten(0, 1).baddbmm_(key.mT.flatten(0, 1), value.flatten(0, 1))
        self._decay = total if self._decay is None else self._decay * total

    def close(self) -> None:
        """Puts what the block has made of it into `wide`."""
        assert self._decay is not None  # a block has at least one chunk
        self.by_head(self.wide).mul_(self._decay)
        self.wide.add_(self._widened.copy_(self._added))

    def by_head(self, tensor: Tensor) -> Tensor:
        """(..., heads a group * dim) -> (..., heads a group, dim)."""
        return tensor.unflatten(-1, (self._heads, -1))
