"""Convolutions: the state is a register that every token moves one place down."""

from __future__ import annotations

import torch
from jaxtyping import Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Shift
from mixerlens.families.checks import tensors
from mixerlens.families.family import Family, register
from mixerlens.support import Support

__all__ = ["short_convolution"]


def short_convolution(
    taps: Inexact[Tensor, "channels width"],
    length: int,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = sum_{l < width} taps[:, l] v_{i-l}: one causal filter a channel, taps[:, 0] for the current token.

    taps (channels, width), real or complex, any width: torch.nn.Conv1d holds the same numbers in reverse order. Values
    (batch, time, channels, 1), a head a channel; length is their number of tokens. The query is the filter, the key
    e_1, A_t the shift; alpha depends on i - j only. State: the last width - 1 values, width numbers a channel with the
    current one. Source: the depthwise convolutions of Mamba (arXiv 2312.00752) and LFM2 (arXiv 2511.23404).
    """
    tensors(taps=taps)
    return CoefficientDynamics(
        query=_filter(taps)[None, None],
        key=_first_cell(taps),
        evolution=Shift(),
        support=Support(segments=segments),
        length=length,
    )


def _filter(taps: Tensor) -> Tensor:
    if taps.dim() != 2 or 0 in taps.shape:
        raise InputError(f"taps must be (channels, width) and not empty, got {tuple(taps.shape)}")
    return taps


def _first_cell(taps: Tensor) -> Tensor:
    """e_1: what enters stands in the first cell of the register."""
    return torch.eye(1, taps.shape[-1], dtype=taps.dtype, device=taps.device)[None, None]


register(
    Family(
        name="short_convolution",
        title="Short convolution (FIR)",
        function=short_convolution,
        example=lambda d: {"taps": d.normal(d.heads, d.dim), "length": d.time, "value": d.values(1)},
        evolution="shift register, W cells",
        key="e_1 ; taps",
        state="W",
        source="arXiv 2312.00752",
        note="a head a channel; alpha depends on i - j only",
    ),
)
