"""The state rank from a few probes: certified from both sides, without the block.

Of a block A = alpha[t:, :t], Q is an orthonormal basis of A Omega for s random columns Omega, and B = Q^H A has at most
s rows. Whatever Q is,

    sigma_k(B) <= sigma_k(A) <= sqrt(sigma_k(B)^2 + rho^2),   rho = |A - Q B|_F,

so the numbers of singular values above a threshold are bounded from below and from above; with probability one rank B =
min(s, rank A) (Halko, Martinsson, Tropp, arXiv 0909.4061). Three passes over alpha, memory O(T s).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.operator import apply, reductions
from mixerlens.operator.rank import cut_positions
from mixerlens.operator.streams import Tile


class RankBounds(NamedTuple):
    """lower <= rank <= upper, (batch, heads) int each."""

    lower: Tensor
    upper: Tensor


class _Residual(reductions.Summary):
    """|A - Q B|_F^2 of the block A = alpha[cut:, :cut]: (batch, heads), float64."""

    signs = True

    def __init__(self, cut: int, q: Tensor, b: Tensor) -> None:
        self.cut, self.q, self.b = cut, q, b  # q (batch, heads, time - cut, s), b (batch, heads, s, cut)

    def start(self, d: Mixer) -> None:
        self.total = torch.zeros(d.batch, d.heads, dtype=torch.float64, device=d.device)

    def add(self, tile: Tile) -> None:
        for own in tile.by_head():
            assert own.values is not None
            for pair in range(own.rows.pairs):
                row, column = own.rows.first + pair * own.rows.step, own.columns.first + pair * own.columns.step
                rows = slice(max(row, self.cut), min(row + own.rows.count, self.cut + self.q.shape[2]))
                columns = slice(column, min(column + own.columns.count, self.cut))
                if rows.start >= rows.stop or columns.start >= columns.stop:
                    continue
                part = own.values[:, :, pair, : columns.stop - column, rows.start - row : rows.stop - row]
                q = self.q[:, own.heads, rows.start - self.cut : rows.stop - self.cut]
                rest = part - (q @ self.b[:, own.heads, :, columns]).mT
                self.total[:, own.heads] += rest.abs().square().sum((-1, -2)).to(torch.float64)

    def result(self) -> Tensor:
        return self.total


def bounds(mixer: Mixer, tol: float, cuts: int | str | Iterable[int], probes: int, seed: int = 0) -> RankBounds:
    """The largest number, over the cuts, of singular values of alpha[t:, :t] above tol times the largest.

    Bounds for the cuts taken, to the rounding of the dtype; where what the probes miss exceeds the threshold, nothing
    bounds the rank from above but the size of the block.
    """
    if not 0 < tol < 1:
        raise InputError(f"tol is {tol}: a sketch counts above a threshold, 0 < tol < 1 of the largest singular value")
    if not isinstance(probes, int) or probes < 1:
        raise InputError(f"probes is {probes!r}: a whole number of at least 1")
    if not mixer.causal:
        raise UnsupportedError("state rank needs a causal mixer: a bidirectional one has no state between tokens")
    found = RankBounds(
        *(torch.zeros(mixer.batch, mixer.heads, dtype=torch.long, device=mixer.device) for _ in range(2))
    )
    with torch.no_grad():
        for cut in cut_positions(mixer.time, cuts):
            for head in range(mixer.heads):
                low, high = _at(mixer.select_heads([head]), tol, cut, probes, seed)
                for total, new in zip(found, (low, high), strict=True):
                    total[:, head] = torch.maximum(total[:, head], new[:, 0])
    return found


def _at(mixer: Mixer, tol: float, cut: int, probes: int, seed: int) -> tuple[Tensor, Tensor]:
    size = min(cut, mixer.time - cut)
    dtype, count = mixer.coefficient_dtype, min(probes, size)
    generator = torch.Generator().manual_seed(seed)
    omega = torch.randn(1, 1, cut, count, generator=generator, dtype=torch.float64).to(mixer.device, dtype)
    shape = (mixer.batch, mixer.heads, mixer.time, count)
    values = torch.zeros(shape, dtype=dtype, device=mixer.device)
    values[:, :, :cut] = omega
    q = torch.linalg.qr(apply.forward(mixer, values)[:, :, cut:]).Q
    values.zero_()
    values[:, :, cut:] = q.conj()
    b = apply.transposed(mixer, values)[:, :, :cut].mT
    (rest,) = reductions.reduce(mixer, [_Residual(cut, q, b)])
    assert isinstance(rest, Tensor)
    low = torch.linalg.svdvals(b).to(torch.float64)
    high = (low.square() + rest.unsqueeze(-1)).sqrt()
    # a basis in floating point is orthonormal to its rounding only
    slack = 1 + 8 * count * torch.finfo(dtype).eps
    lower = (low > tol * slack * high[..., :1]).sum(-1)
    threshold = tol * low[..., :1] / slack
    upper = torch.where(rest.sqrt() > threshold[..., 0], size, (high > threshold).sum(-1))
    return lower, upper
