"""Exponential gates: a common unit that keeps e^x from overflowing, and the dtype that holds what is left."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.shapes import wide, working


def from_peak(log_gate: Tensor, segments: Tensor | None) -> tuple[Tensor, Tensor]:
    """log_gate less its largest entry in each sequence and head, and that entry.

    log_gate (batch, time, heads) -> (batch, time, heads) and (batch, 1, heads), float64. Padding (segments < 0) has no
    say in the peak and is put at the peak, so that no exponential of it overflows. A sequence of padding or closed
    gates (-inf) only has peak 0.
    """
    x = wide(log_gate)
    real = torch.ones(1, 1, 1, dtype=torch.bool) if segments is None else (segments >= 0)[..., None]
    real = real.to(x.device)
    peak = torch.where(real, x, -torch.inf).amax(1, keepdim=True).detach()
    peak = torch.where(torch.isneginf(peak), 0, peak)
    return torch.where(real, x - peak, 0), peak


def held(span: float, x: Tensor, what: str) -> Tensor:
    """x, in float64 (complex128) where e^-span needs its exponents; InputError with ``what`` where those are too few.

    Half of the exponents are for the span, the other half for what decays: what underflows is then below rounding.
    """
    for candidate in (x.to(working(x.dtype)), wide(x)):
        most = math.log(torch.finfo(candidate.dtype).max) / 2
        if span <= most:
            return candidate
    raise InputError(f"{what} span e^{span:.4g}, float64 carries e^{most:.0f} beside the decays: rescale the gates")
