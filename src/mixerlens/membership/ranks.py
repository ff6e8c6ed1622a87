"""Ranks of growing blocks: whether what crosses from one token to the next is of fixed size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCES = (1e-3, 1e-6, 1e-10)
CUTS = 5


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
    def grows(self) -> bool:
        return self.rank > self.half_rank


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
    bool; blocks hold valid entries only.
    """
    time = matrix.shape[1]
    side = largest_side(valid, time) if valid is not None else time // 2
    size = matrix.shape[-1] if matrix.dim() == 5 else 1
    return _growth(lambda h: [_below(matrix, t, h) for t in _cuts(valid, time, h)], side, bars, size)


def corner(matrix: Tensor, valid: Tensor | None, bars: Bars) -> Growth:
    """Growth of the leading blocks matrix[:, :side, :side]: for mixers that see both ways, whose A_t is I."""
    side = matrix.shape[1]
    if valid is not None and not bool(valid.all()):
        return Growth(0, 0, 0)
    return _growth(lambda h: [matrix[:, :h, :h]], side, bars)


def _growth(blocks: Callable[[int], list[Tensor]], side: int, bars: Bars, size: int = 1) -> Growth:
    if side < 2:
        return Growth(side, 0, 0)
    large, small = ([v for b in blocks(h) for v in torch.linalg.svdvals(b)] for h in (side, side // 2))
    (rank, gap), (half, _) = (_sharpest(large, bars), _sharpest(small, bars))
    counted = tuple(max(int((v > tol * v[0]).sum()) for v in large) for tol in TOLERANCES)
    return Growth(side, rank, half, gap, counted, size)


def _sharpest(spectra: list[Tensor], bars: Bars) -> tuple[int, float]:
    """The largest rank of several blocks, and the worst gap, from singular values in descending order.

    A block's rank ends where its singular values fall the most, if that is below the tolerance and by more than the
    gap asked for; otherwise at the tolerance.
    """
    best, worst = 0, 0.0
    for values in spectra:
        if values[0] == 0:
            continue
        size = (values / values[0]).clamp(min=bars.floor)
        fall = torch.where(size[1:] <= bars.tolerance, size[1:] / size[:-1], 1.0)
        if len(fall) and float(fall.min()) <= bars.gap:
            rank, gap = int(fall.argmin()) + 1, float(fall.min())
        else:
            rank = int((size > bars.tolerance).sum())
            gap = float(size[rank] / size[rank - 1]) if rank < len(size) else 1.0
        best, worst = max(best, rank), max(worst, gap)
    return best, worst


def _below(matrix: Tensor, t: int, side: int) -> Tensor:
    block = matrix[:, t : t + side, t - side : t]
    return block if block.dim() == 3 else block.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)


def largest_side(valid: Tensor, time: int) -> int:
    """The largest block across a cut that holds valid entries only."""
    for side in range(time // 2, 0, -1):
        if _cuts(valid, time, side):
            return side
    return 0


def _cuts(valid: Tensor | None, time: int, side: int) -> list[int]:
    """At most ``CUTS`` evenly spaced cuts at which a block of this side fits."""
    fit = [t for t in range(side, time - side + 1) if valid is None or bool(valid[t : t + side, t - side : t].all())]
    if len(fit) <= CUTS:
        return fit
    return [fit[round(k * (len(fit) - 1) / (CUTS - 1))] for k in range(CUTS)]
