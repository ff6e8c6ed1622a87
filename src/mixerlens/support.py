"""Which pairs (i, j) a mixer sums over: a property of the mixer beside its readout, never folded into the scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mixerlens.errors import InputError


@dataclass(frozen=True, eq=False)
class Support:
    """The pairs (row i, column j) that may differ from zero.

    causal: j <= i; otherwise every j.
    window: W keeps the W nearest: i - W < j <= i when causal, |i - j| < W when not.
    segments: integers (batch | 1, time); a token sees its own segment only, and -1 marks padding, which neither sees
        nor is seen.

    Raises InputError for a window below 1 or segments that are not (batch, time) integers.
    """

    causal: bool = True
    window: int | None = None
    segments: Tensor | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise InputError(f"window is {self.window}: it counts the tokens seen, itself included, so at least 1")
        s = self.segments
        if s is not None and (s.dim() != 2 or s.is_floating_point() or s.is_complex()):
            raise InputError(f"segments must be integers (batch, time), got {s.dtype} {tuple(s.shape)}")

    @cached_property
    def contiguous(self) -> bool:
        """Every segment is one run of tokens, so that a state reset at its border is exact."""
        if self.segments is None:
            return True
        for row in self.segments:
            runs = torch.unique_consecutive(row)
            runs = runs[runs >= 0]
            if runs.numel() != torch.unique(runs).numel():
                return False
        return True

    @property
    def recurrent(self) -> bool:
        """A state of fixed size can respect this support: causal, no window, segments in runs."""
        return self.causal and self.window is None and self.contiguous

    def mask(self, rows: tuple[int, int], columns: tuple[int, int], device: torch.device) -> Tensor:
        """Boolean (batch | 1, 1, rows, columns), True where the pair is in the support."""
        i = torch.arange(*rows, device=device)[:, None]
        j = torch.arange(*columns, device=device)[None, :]
        inside = (j <= i) if self.causal else torch.ones(i.shape[0], j.shape[1], dtype=torch.bool, device=device)
        if self.window is not None:
            inside = inside & ((i - j).abs() < self.window)
        inside = inside[None, None]
        if self.segments is not None:
            segments = self.segments.to(device)
            left, right = segments[:, None, rows[0] : rows[1], None], segments[:, None, None, columns[0] : columns[1]]
            inside = inside & (left == right) & (left >= 0)
        return inside

    def first_column(self, row: int) -> int:
        """No column before this one is seen by the given row or any later one."""
        return max(0, row - self.window + 1) if self.causal and self.window is not None else 0

    def to(self, device: torch.device) -> Support:
        segments = None if self.segments is None else self.segments.to(device)
        return Support(self.causal, self.window, segments)
