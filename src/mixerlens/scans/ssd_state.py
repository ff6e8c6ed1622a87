"""Mamba-2's state on its way over the chunks of a block."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.scans.room import Room


class State:
    """A state, (batch, groups, state, heads a group * dim), that one chunk after the other forgets and adds to.

    `wide` is the state before the block, in float64; what the block's chunks add to it is in the arguments' dtype. So
    rounding does not add up over the sequence (carried in float32, a sequence of 65536 tokens that forgets little is
    off by 1.6e-6), and float64 is met once a block. Only `wide` outlives a block: states may share the rest.
    """

    def __init__(self, wide: Tensor, heads: int, room: Room, name: str) -> None:
        self.wide, self._heads = wide, heads
        self._base, self._added, self._now = (room(f"{name} {part}", *wide.shape) for part in ("base", "added", "now"))
        self._widened = room("widened", *wide.shape, dtype=wide.dtype)
        self._by_head = [self.by_head(tensor) for tensor in (self._added, self._base, self._now)]
        self._flat = self._added.flatten(0, 1)

    def open(self, totals: Tensor) -> None:
        """Before a block, with what each of its steps will multiply the state by: (steps, batch, groups, heads)."""
        self._base.copy_(self.wide)
        decays = totals.cumprod(0)
        self._last, self._done = decays[-1, :, :, None, :, None], 0
        narrow = (tensor.to(self._base.dtype)[:, :, :, None, :, None] for tensor in (totals, decays))
        self._totals, self._decays = (tensor.unbind(0) for tensor in narrow)

    def now(self) -> Tensor:
        """The state after the last step, in the arguments' dtype; valid until the next one."""
        if not self._done:
            return self._base
        added, base, now = self._by_head
        torch.addcmul(added, base, self._decays[self._done - 1], out=now)
        return self._now

    def step(self, key: Tensor, value: Tensor) -> None:
        """S becomes total S + key value: key (batch * groups, state, chunk), value (.., chunk, heads * dim)."""
        if self._done:
            self._by_head[0].mul_(self._totals[self._done])
            self._flat.baddbmm_(key, value)
        else:
            torch.bmm(key, value, out=self._flat)
        self._done += 1

    def close(self) -> None:
        """Puts what the block has made of it into `wide`, after all steps."""
        wide = self.by_head(self.wide)
        torch.addcmul(self.by_head(self._widened.copy_(self._added)), wide, self._last, out=wide)

    def by_head(self, tensor: Tensor) -> Tensor:
        """(..., heads a group * dim) -> (..., heads a group, dim)."""
        return tensor.unflatten(-1, (self._heads, -1))
