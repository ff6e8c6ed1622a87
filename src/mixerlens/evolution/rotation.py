"""A_t = a_t R(angle_t): rotary positions (RoPE is A = R(-theta)), RetNet's xPos-free retention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.base import Carry, Factors
from mixerlens.evolution.scalar import Decayed
from mixerlens.shapes import spread, tile, wide


def rotate(x: Tensor, angle: Tensor, layout: str) -> Tensor:
    """R(angle) x, counter-clockwise in every pair of dimensions: x (..., 2 p), angle (..., p) in radians.

    layout "half" pairs dimension i with i + p (llama); "interleaved" pairs 2 i with 2 i + 1 (GPT-J).
    Sine and cosine are taken in float64: a float32 angle at position 4096 is off by 1e-4 rad.
    """
    cos, sin = torch.cos(angle).to(x.dtype), torch.sin(angle).to(x.dtype)
    if layout == "half":
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)


@dataclass(frozen=True, eq=False)
class _RotationCarry(Carry):
    """The total angle (batch, heads, pairs) of a chunk, and the carry of its decay."""

    angle: Tensor
    layout: str
    decay: Carry

    def forward(self, state: Tensor) -> Tensor:
        return self.decay.forward(rotate(state.mT, self.angle.unsqueeze(-2), self.layout).mT)

    def backward(self, rows: Tensor) -> Tensor:
        return self.decay.backward(rotate(rows, -self.angle.unsqueeze(-2), self.layout))


@dataclass(frozen=True, eq=False)
class Rotation(Decayed):
    """A_t = a_t R(angle_t), R counter-clockwise in each of dim / 2 planes.

    angle: radians a token, (batch, time, heads, dim / 2), leading axes may be left out.
    log_decay or decay (batch, time, heads): the scalar a_t, 1 when both are left out.
    Eigenvalues: a_t exp(+-i angle).
    """

    angle: Tensor
    layout: str = "half"
    log_decay: Tensor | None = None
    decay: Tensor | None = None
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        if self.layout not in ("half", "interleaved"):
            raise InputError(f'layout is {self.layout!r}: use "half" (llama) or "interleaved" (GPT-J)')
        self.settle({"angle": 1})
        if self.angle.is_complex():
            raise InputError("rotation angles must be real, in radians")

    def step(self, state: Tensor, t: int) -> Tensor:
        turned = rotate(state.mT, wide(tile(self.angle, t, t + 1)), self.layout).mT
        return turned if self.scalar is None else self.scalar.step(turned, t)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        # R is orthogonal, so it may be undone: q_i^T R(P_i - P_j) k_j is an inner product of two turned vectors
        phase = self._phases(lo, hi)
        total = phase[..., -1:, :]
        if phase.shape[1] > 1:  # an angle a head: the heads of a group part
            query, key = spread(query, phase.shape[1]), spread(key, phase.shape[1])
        query, key = rotate(query, -phase, self.layout), rotate(key, -phase, self.layout)
        if self.scalar is None:
            heads = max(query.shape[1], key.shape[1])
            intra, emit, inject, decay = (spread(query, heads) @ spread(key, heads).mT).tril(), query, key, Carry()
        else:
            inner = self.scalar.factors(query, key, lo, hi)
            intra, emit, inject, decay = inner.intra, inner.emit, inner.inject, inner.carry
        inject = rotate(inject, total, self.layout)
        return Factors(intra, emit, inject, _RotationCarry(total[..., 0, :], self.layout, decay))

    def _phases(self, lo: int, hi: int) -> Tensor:
        """Angles turned since token lo - 1, float64 (batch, heads, hi - lo, pairs). Whole turns are dropped before
        they are summed and a constant angle is multiplied, not summed, so that a long chunk costs no precision."""
        angle = wide(self.angle)
        angle = angle - 2 * torch.pi * torch.round(angle / (2 * torch.pi))
        if self.angle.shape[1] > 1:
            return tile(angle, lo, hi).cumsum(-2)
        count = torch.arange(1, hi - lo + 1, dtype=angle.dtype, device=angle.device)
        return tile(angle, 0, 1) * count[:, None]

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        angle = wide(self.angle[:, lo:hi] if self.angle.shape[1] > 1 else self.angle)
        phase = torch.exp(1j * torch.cat([angle, -angle], -1))
        return self._decayed(phase, lo, hi)

    def check(self, dim: int) -> None:
        if dim != 2 * self.angle.shape[-1]:
            raise InputError(f"{self.angle.shape[-1]} angles turn {2 * self.angle.shape[-1]} dimensions, not {dim}")
