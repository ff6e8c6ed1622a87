"""The normalisers eta: alpha_ij = phi(q_i^T u_ij) / eta_i."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.readout import Readout
from mixerlens.shapes import take_heads, take_tokens, tile


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Base, and the trivial case: turns a block of whole rows of scores into coefficients."""

    row_sum = False  # whether eta_i depends on the row's own coefficients

    def coefficients(self, readout: Readout, scores: Tensor, mask: Tensor, rows: tuple[int, int]) -> Tensor:
        """phi(scores) / eta on the support, 0 off it. scores (batch, heads, rows, columns) must hold whole rows."""
        if readout.linear:
            return torch.where(mask, readout(scores), 0)
        # phi is evaluated at 0 off the support, so that a masked overflow cannot poison the gradient
        return torch.where(mask, readout(torch.where(mask, scores, 0)), 0)

    def take_heads(self, index: Sequence[int], heads: int) -> Normalizer:
        return self

    def take_tokens(self, lo: int, hi: int) -> Normalizer:
        """The normaliser of the tokens lo <= t < hi."""
        return self

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Normalizer:
        return self

    def detach(self) -> Normalizer:
        return self

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Named (batch, time, heads) sizes that must broadcast with the rest."""
        return {}


@dataclass(frozen=True, eq=False)
class NoNormalizer(Normalizer):
    """eta = 1."""


@dataclass(frozen=True, eq=False)
class RowSum(Normalizer):
    """eta_i = sum_j phi(q_i^T u_ij) over the support of row i: softmax attention, normalised linear attention."""

    row_sum = True

    def sink_scores(self, scores: Tensor) -> Tensor | None:
        """What the sum holds beside the tokens' scores, to broadcast with (batch, heads, rows, 1); None for nothing."""
        return None

    def eta(self, total: Tensor, readout: Readout, rows: tuple[int, int]) -> Tensor:
        """eta from the sums of phi over the row, (batch, heads, rows, 1)."""
        sink = self.sink_scores(total)
        return total if sink is None else total + readout(sink)

    def coefficients(self, readout: Readout, scores: Tensor, mask: Tensor, rows: tuple[int, int]) -> Tensor:
        sink = self.sink_scores(scores)
        if not readout.exponential:
            phi = super().coefficients(readout, scores, mask, rows)
            total = self.eta(phi.sum(-1, keepdim=True), readout, rows)
            # a row that phi (relu, say) leaves wholly at zero stays at zero: it has nothing to share out
            silent = ~mask.any(-1, keepdim=True) if readout.linear else (phi == 0).all(-1, keepdim=True)
            return torch.where(mask, phi / torch.where(silent, 1, total), 0)
        # subtracting the row's largest log phi leaves alpha unchanged and keeps exp from overflowing
        log_phi = readout.log(torch.where(mask, scores, 0))
        size = log_phi.real if log_phi.is_complex() else log_phi
        peak = torch.where(mask, size, -torch.inf).amax(-1, keepdim=True)
        if sink is not None:
            peak = torch.maximum(peak, sink)
        peak = torch.where(torch.isfinite(peak), peak, 0).detach()  # rows without support
        phi = torch.where(mask, torch.exp(torch.where(mask, log_phi - peak, 0)), 0)
        total = phi.sum(-1, keepdim=True)
        if sink is not None:
            total = total + torch.exp(sink - peak)
        return phi / torch.where(mask.any(-1, keepdim=True), total, 1)


@dataclass(frozen=True, eq=False)
class RowSumSink(RowSum):
    """eta_i = s + sum_j phi(q_i^T u_ij): a learned score per head that takes mass and gives no value (GPT-OSS).

    sink: (heads,) scores. s = exp(sink) for exponential readouts, also soft-capped ones: the cap acts on the scores of
    tokens and leaves the sink alone, as attention kernels do; s = phi(sink) for all others.
    """

    sink: Tensor

    def __post_init__(self) -> None:
        if self.sink.dim() != 1 or self.sink.is_complex() or not bool(torch.isfinite(self.sink).all()):
            raise InputError(f"sink must be real finite scores of shape (heads,), got shape {tuple(self.sink.shape)}")

    def sink_scores(self, scores: Tensor) -> Tensor:
        return self.sink.to(scores.device, scores.dtype.to_real())[None, :, None, None]

    def take_heads(self, index: Sequence[int], heads: int) -> RowSumSink:
        return self if self.sink.shape[0] == 1 else RowSumSink(self.sink[list(index)])

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> RowSumSink:
        return RowSumSink(self.sink.to(device=device, dtype=dtype))

    def detach(self) -> RowSumSink:
        return RowSumSink(self.sink.detach())

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        return {"sink": (1, 1, self.sink.shape[0])}


@dataclass(frozen=True, eq=False)
class RowSumFloor(RowSum):
    """eta_i = max(|sum_j q_i^T u_ij|, floor_i): mLSTM (xLSTM, arXiv 2405.04517), whose floor is 1.

    floor: (batch | 1, time | 1, heads | 1), not negative; for linear readouts. It bounds eta from below, and does not
    bound sum_j |alpha_ij|.
    """

    floor: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.floor, Tensor) or self.floor.dim() != 3 or self.floor.is_complex():
            told = tuple(self.floor.shape) if isinstance(self.floor, Tensor) else self.floor
            raise InputError(f"floor must be a real tensor (batch, time, heads), got {told}")
        if not bool((self.floor >= 0).all()):
            raise InputError(f"floor must not be negative or NaN, its smallest value is {float(self.floor.min()):.3g}")

    def eta(self, total: Tensor, readout: Readout, rows: tuple[int, int]) -> Tensor:
        floor = tile(self.floor[..., None], *rows).to(total.device, total.dtype.to_real())
        return torch.maximum(total.abs(), floor)  # a row without anything under a floor of 0 is 0 / 0

    def take_heads(self, index: Sequence[int], heads: int) -> RowSumFloor:
        return RowSumFloor(take_heads(self.floor[..., None], index, heads)[..., 0])

    def take_tokens(self, lo: int, hi: int) -> RowSumFloor:
        return RowSumFloor(take_tokens(self.floor, lo, hi))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> RowSumFloor:
        """The floor is never narrowed: in units of the largest gate it may be far below what float32 holds."""
        target = self.floor.dtype if dtype is None else torch.promote_types(self.floor.dtype, dtype)
        return RowSumFloor(self.floor.to(device=device, dtype=target))

    def detach(self) -> RowSumFloor:
        return RowSumFloor(self.floor.detach())

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        batch, time, heads = self.floor.shape
        return {"floor": (batch, time, heads)}


@dataclass(frozen=True, eq=False)
class PerToken(Normalizer):
    """eta_i given: (batch | 1, time | 1, heads | 1), never zero."""

    eta: Tensor

    def __post_init__(self) -> None:
        if (
            self.eta.dim() != 3
            or self.eta.is_complex()
            or not bool(torch.isfinite(self.eta).all())
            or bool((self.eta == 0).any())
        ):
            raise InputError(
                f"eta must be real, finite, not zero, (batch, time, heads); got shape {tuple(self.eta.shape)}"
            )

    def rows(self, rows: tuple[int, int], like: Tensor) -> Tensor:
        """eta as (batch, heads, rows, 1)."""
        return tile(self.eta[..., None], *rows).to(like.device, like.dtype.to_real())

    def coefficients(self, readout: Readout, scores: Tensor, mask: Tensor, rows: tuple[int, int]) -> Tensor:
        phi = super().coefficients(readout, scores, mask, rows)
        return phi / self.rows(rows, phi)

    def take_heads(self, index: Sequence[int], heads: int) -> PerToken:
        return PerToken(take_heads(self.eta[..., None], index, heads)[..., 0])

    def take_tokens(self, lo: int, hi: int) -> PerToken:
        return PerToken(take_tokens(self.eta, lo, hi))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> PerToken:
        return PerToken(self.eta.to(device=device, dtype=dtype))

    def detach(self) -> PerToken:
        return PerToken(self.eta.detach())

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        batch, time, heads = self.eta.shape
        return {"eta": (batch, time, heads)}
