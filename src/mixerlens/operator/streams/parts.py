"""Generators of windows of tokens that grow by merging neighbours.

    emit = [emit_left, emit_right carry_left],  inject = [carry_right inject_left, inject_right]

so the scores of two neighbouring windows of equal length are emit_right inject_left^T. Where carries are diagonal the
generators of the smallest windows stay as they are and only a factor a window and state dimension, float64, grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.operator.streams.buffers import Buffers
from mixerlens.operator.streams.maps import Maps
from mixerlens.shapes import wide


@dataclass(frozen=True, eq=False)
class Part:
    """One system's share of a block. emit, inject: (batch, heads, windows, length, dim); maps: its windows' carries."""

    emit: Tensor
    inject: Tensor
    maps: Maps

    @property
    def windows(self) -> int:
        return self.emit.shape[2]

    def right(self) -> Tensor:
        """What the windows of odd number emit: (batch, heads, windows / 2, length, dim)."""
        raise NotImplementedError

    def left(self) -> Tensor:
        """What the windows of even number inject."""
        raise NotImplementedError

    def merged(self) -> Part:
        """Windows two by two. This part is used up."""
        raise NotImplementedError

    def whole_emit(self) -> Tensor:
        """emit, wide, of what has become one window: (batch, heads, 1, tokens, dim)."""
        raise NotImplementedError

    def whole_inject(self) -> Tensor:
        """inject, the same."""
        raise NotImplementedError


class DensePart(Part):
    """Dense carries: emit and inject are wide and carried in place."""

    def right(self) -> Tensor:
        return self.emit[:, :, 1::2]

    def left(self) -> Tensor:
        return self.inject[:, :, 0::2]

    def merged(self) -> Part:
        left, right = self.maps.halves(self.windows)
        emit, inject = (x.unflatten(2, (-1, 2)) for x in (self.emit, self.inject))
        emit[:, :, :, 1] = left.rows(emit[:, :, :, 1])
        inject[:, :, :, 0] = right.columns(inject[:, :, :, 0])
        return DensePart(emit.flatten(3, 4), inject.flatten(3, 4), right.after(left))

    def whole_emit(self) -> Tensor:
        return self.emit

    def whole_inject(self) -> Tensor:
        return self.inject


@dataclass(frozen=True, eq=False)
class DiagonalPart(Part):
    """Diagonal carries. emit and inject belong to the smallest windows, in the working dtype; before and after,
    (batch | 1, heads | 1, smallest windows, dim | 1), carry them to the borders of the window that they are in now."""

    before: Tensor
    after: Tensor
    number: int
    narrow: bool  # whether factors fit the working dtype: nothing grows
    buffers: Buffers

    @classmethod
    def of(cls, emit: Tensor, inject: Tensor, maps: Maps, buffers: Buffers) -> DiagonalPart:
        count = emit.shape[2]
        numbers = maps.numbers.expand(-1, -1, count, -1)
        one = torch.ones_like(numbers)
        return cls(emit, inject, Maps(numbers), one, one.clone(), count, not maps.may_grow, buffers)

    @property
    def windows(self) -> int:
        return self.number

    def right(self) -> Tensor:
        return self._carried(self.emit, self.before, 1)

    def left(self) -> Tensor:
        return self._carried(self.inject, self.after, 0)

    def _carried(self, x: Tensor, by: Tensor, side: int) -> Tensor:
        by = by.unflatten(2, (self.number // 2, 2, -1))[:, :, :, side].unsqueeze(-2)
        x = x.unflatten(2, (self.number // 2, 2, -1))[:, :, :, side]
        kind = x.dtype if self.narrow else wide(x).dtype
        kind = kind.to_complex() if by.is_complex() else kind
        if self.number == self.emit.shape[2]:
            return x.to(kind).flatten(3, 4)
        out = self.buffers.take("right" if side else "left", tuple(x.shape), x, kind)
        return torch.mul(x, by.to(kind), out=out).flatten(3, 4)

    def merged(self) -> Part:
        left, right = self.maps.halves(self.number)
        before, after = (x.unflatten(2, (self.number // 2, 2, -1)) for x in (self.before, self.after))
        before[:, :, :, 1] *= left.numbers.unsqueeze(3)
        after[:, :, :, 0] *= right.numbers.unsqueeze(3)
        before, after = before.flatten(2, 4), after.flatten(2, 4)
        return DiagonalPart(
            self.emit, self.inject, right.after(left), before, after, self.number // 2, self.narrow, self.buffers
        )

    def whole_emit(self) -> Tensor:
        return (wide(self.emit) * self.before.unsqueeze(-2)).flatten(2, 3).unsqueeze(2)

    def whole_inject(self) -> Tensor:
        return (wide(self.inject) * self.after.unsqueeze(-2)).flatten(2, 3).unsqueeze(2)


def part(emit: Tensor, inject: Tensor, maps: Maps, buffers: Buffers) -> Part:
    if not maps.dense:
        return DiagonalPart.of(emit, inject, maps, buffers)
    kind = torch.promote_types(torch.promote_types(emit.dtype, inject.dtype), maps.numbers.dtype)
    emit, inject = (torch.empty(x.shape, dtype=kind, device=x.device).copy_(x) for x in (emit, inject))
    return DensePart(emit, inject, maps)
