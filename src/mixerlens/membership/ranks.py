"""Ranks of growing blocks: whether what crosses from one token to the next is of fixed size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOLERANCES = (1e-3, 1e-6, 1e-10)
SQUARES, CUTS = 5, 17  # cuts looked at: with square blocks, with whole ones


@dataclass(frozen=True)
class Growth:
    """The largest rank of blocks with ``side`` and with side // 2 tokens on each side of a cut.

    side: 0 where no block lies inside the support. ranks: of the larger blocks, counted at ``TOLERANCES``. size: of an
    entry. gap: the first singular value left out over the last one counted, the worst block: tiny for a rank that is
    exact, near 1 where singular values fall off smoothly and the rank is a matter of tolerance only.
    """

    side: int
    rank: int
    half_rank: int
    gap: float = 1.0
    ranks: tuple[int, ...] = (0,) * len(TOLERANCES)
    size: int = 1

    @property
    def cap(self) -> int:
        """The largest rank that could have been seen."""
        return self.side * self.size

    @property
    def plateau(self) -> bool:
        """No growth from half the side to all of it, and room for it: at most half of what could be seen."""
        return self.side >= 2 and self.rank == self.half_rank and 2 * self.rank <= self.cap

    @property
    def numbers(self) -> dict[str, Any]:
        """For a finding."""
        named = {f"rank at {self.side // 2} tokens": self.half_rank, f"at {self.side}": self.rank, "gap": self.gap}
        return named | {f"counted at {', '.join(f'{t:g}' for t in TOLERANCES)}": list(self.ranks)}


@dataclass(frozen=True)
class Bars:
    """tolerance: relative to a block's largest singular value, below which one may be left out. gap: from one singular
    value to the next, at which a rank is exact. floor: relative size of rounding.
    """

    tolerance: float
    gap: float
    floor: float


def crossing(matrix: Tensor, valid: Tensor | None, bars: Bars) -> Growth:
    """Growth of the blocks matrix[..., t : t + side, t - side : t] below the diagonal, over several cuts t.

    matrix: (systems, time, time) or (systems, time, time, m, m) with m x m matrices as entries. valid: (time, time)
    bool; blocks hold valid entries only. The rank is that of whole blocks matrix[..., t:, :t] too, where those are
    valid.
    """
    time = matrix.shape[1]
    fits = _fits(valid, time)
    side = next((h for h in range(time // 2, 0, -1) if fits(h)), 0)
    if side < 2:
        return Growth(side, 0, 0)

    def squares(h: int) -> list[Tensor]:
        return [_block(matrix, slice(t, t + h), slice(t - h, t)) for t in _even(fits(h), SQUARES)]

    whole = [t for t in _even(list(range(1, time)), CUTS) if valid is None or bool(valid[t:, :t].all())]
    large = squares(side) + [_block(matrix, slice(t, time), slice(0, t)) for t in whole]
    return _growth(large, squares(side // 2), side, bars, matrix.shape[-1] if matrix.dim() == 5 else 1)


def corner(matrix: Tensor, valid: Tensor | None, bars: Bars) -> Growth:
    """Growth of the leading blocks matrix[:, :side, :side]: for mixers that see both ways, whose A_t is I."""
    side = matrix.shape[1]
    if valid is not None and not bool(valid.all()):
        return Growth(0, 0, 0)
    return _growth([matrix], [matrix[:, : side // 2, : side // 2]], side, bars)


def _growth(large: list[Tensor], small: list[Tensor], side: int, bars: Bars, size: int = 1) -> Growth:
    spectra, halves = ([v for b in blocks for v in torch.linalg.svdvals(b)] for blocks in (large, small))
    rank, gap = _sharpest(spectra, bars)
    counted = tuple(max(int((v > tol * v[0]).sum()) for v in spectra) for tol in TOLERANCES)
    return Growth(side, rank, _sharpest(halves, bars)[0], gap, counted, size)


def _sharpest(spectra: list[Tensor], bars: Bars) -> tuple[int, float]:
    """The largest rank of several blocks, and the worst gap, from singular values in descending order.

    A block's rank ends where its singular values fall the most, if that is below the tolerance and by more than the
    gap asked for; otherwise at the tolerance. A block too small for the largest rank has no gap to show.
    """
    found = []
    for values in spectra:
        if values[0] == 0:
            continue
        size = (values / values[0]).clamp(min=bars.floor)
        fall = torch.where(size[1:] <= bars.tolerance, size[1:] / size[:-1], 1.0)
        if len(fall) and float(fall.min()) <= bars.gap:
            found.append((int(fall.argmin()) + 1, float(fall.min()), len(size)))
        else:
            rank = int((size > bars.tolerance).sum())
            found.append((rank, float(size[rank] / size[rank - 1]) if rank < len(size) else 1.0, len(size)))
    best = max((rank for rank, _, _ in found), default=0)
    return best, max((gap for _, gap, count in found if count > best), default=0.0 if best == 0 else 1.0)


def _block(matrix: Tensor, rows: slice, columns: slice) -> Tensor:
    block = matrix[:, rows, columns]
    return block if block.dim() == 3 else block.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)


def _fits(valid: Tensor | None, time: int) -> Callable[[int], list[int]]:
    """For a side, the cuts t at which a square block across the diagonal fits and holds valid entries only."""
    if valid is None:
        return lambda side: list(range(side, time - side + 1))
    count = torch.nn.functional.pad((~valid).long(), (1, 0, 1, 0)).cumsum(0).cumsum(1).tolist()

    def cuts(side: int) -> list[int]:
        lo, hi = range(time - 2 * side + 1), range(side, time - side + 1)
        bad = (count[t + side][t] - count[t][t] - count[t + side][a] + count[t][a] for a, t in zip(lo, hi, strict=True))
        return [t for t, found in zip(hi, bad, strict=True) if not found]

    return cuts


def _even(cuts: list[int], most: int) -> list[int]:
    """At most so many of the cuts, evenly spread."""
    if len(cuts) <= most:
        return cuts
    return [cuts[round(k * (len(cuts) - 1) / (most - 1))] for k in range(most)]
