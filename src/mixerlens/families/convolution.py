"""Convolutions: the state is a register that every token moves one place down."""

from __future__ import annotations

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Shift
from mixerlens.families.checks import tensors
from mixerlens.families.family import Family, register
from mixerlens.operator.memory import require
from mixerlens.support import Support

__all__ = ["hyena", "short_convolution", "sliding_window_linear_attention"]


def short_convolution(
    taps: Inexact[Tensor, "channels width"],
    length: int,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = sum_{l < width} taps[:, l] v_{i-l}: one causal filter a channel, taps[:, 0] for the current token.

    taps (channels, width), real or complex, any width: torch.nn.Conv1d holds the same numbers in reverse order. Values
    (batch, time, channels, 1), a head a channel; length is their number of tokens. The query is the filter, the key
    e_1, A_t the shift; alpha depends on i - j only. State: the last width values, the current one among them. A long
    convolution has as many taps as tokens: its state grows with the sequence, unless the filter is rational, as that of
    every state space model is. Source: the depthwise convolutions of Mamba (arXiv 2312.00752) and LFM2 (arXiv
    2511.23404); long filters arXiv 2102.02611.
    """
    tensors(taps=taps)
    return CoefficientDynamics(
        query=_filter(taps)[None, None],
        key=_first_cell(taps),
        evolution=Shift(),
        support=Support(segments=segments),
        length=length,
    )


def hyena(
    taps: Float[Tensor, "channels width"],
    query_gate: Float[Tensor, "batch time channels"],
    key_gate: Float[Tensor, "batch time channels"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = x1_i sum_l taps[:, l] x2_{i-l} v_{i-l}: Hyena of order 2, a long filter between two gates.

    taps (channels, width), taps[:, 0] for the current token, width the longest sequence; query_gate x1, key_gate x2
    (batch, time, channels), after their short convolutions. Values (batch, time, channels, 1), a head a channel. State:
    T numbers a channel, finite only where the filter is rational. Higher orders repeat the filter and x1, a chain of
    such mixers. Source: arXiv 2302.10866.

    A gated query holds batch x time x channels x width numbers. Raises MemoryBudgetError where they do not fit;
    ``x1 * (short_convolution(taps, length).operator() @ (x2 * v))`` is the same map by FFT and holds none of them.
    """
    tensors(taps=taps, query_gate=query_gate, key_gate=key_gate)
    if query_gate.dim() != 3 or query_gate.shape[-1] != _filter(taps).shape[0]:
        raise InputError(
            f"query_gate must be (batch, time, {taps.shape[0]}) for taps {tuple(taps.shape)}, "
            f"got {tuple(query_gate.shape)}"
        )
    require(
        "hyena's gated query", *query_gate.shape, taps.shape[-1], dtype=query_gate.dtype,
        instead="gate the values and the result of a short_convolution",
    )  # fmt: skip
    return CoefficientDynamics(
        query=query_gate[..., None] * taps,
        key=_first_cell(taps),
        evolution=Shift(),
        scaling=key_gate,
        support=Support(segments=segments),
    )


def sliding_window_linear_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    window: int,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = sum over i - window < j <= i of (q_i^T k_j) v_j, with a state: the last ``window`` impulses side by side.

    query, key (batch, time, heads, dim), feature maps applied by the caller. A_t is a shift by blocks of dim, so that
    the key (k, 0, ...) is forgotten after ``window`` tokens whole; the query is (q, ..., q). State window x dim a value
    channel. linear_attention with Support(window=window) is the same mixer without its state.
    """
    tensors(query=query, key=key)
    if window < 1:
        raise InputError(f"window is {window}: it counts the tokens seen, itself included, so at least 1")
    dim = key.shape[-1]
    return CoefficientDynamics(
        query=query.repeat(*[1] * (query.dim() - 1), window),
        key=torch.nn.functional.pad(key, (0, (window - 1) * dim)),
        evolution=Shift(block=dim),
        support=Support(segments=segments),
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
    Family(
        name="long_convolution",
        title="Long convolution",
        function=short_convolution,
        example=lambda d: {"taps": d.normal(d.heads, d.time + 2), "length": d.time, "value": d.values(1)},
        evolution="shift register, T cells",
        key="e_1 ; filter",
        state="T",
        recurrence="grows",
        source="arXiv 2102.02611",
        note="finite only if the filter is rational; alpha depends on i - j only",
    ),
    Family(
        name="hyena",
        title="Hyena",
        function=hyena,
        example=lambda d: {
            "taps": d.normal(d.heads, d.time + 2),
            "query_gate": d.normal(d.batch, d.time, d.heads),
            "key_gate": d.normal(d.batch, d.time, d.heads),
            "value": d.values(1),
        },
        evolution="shift register, T cells",
        key="x2 e_1 ; x1 filter",
        state="T",
        recurrence="grows",
        source="arXiv 2302.10866",
        note="a head a channel; the gated query holds T x T numbers a channel",
    ),
    Family(
        name="sliding_window_linear_attention",
        title="Sliding-window linear attention",
        function=sliding_window_linear_attention,
        example=lambda d: {"query": d.vectors(2), "key": d.vectors(2), "window": 5, "value": d.values()},
        evolution="shift by blocks of n",
        key="(k, 0, ...) ; (q, ..., q)",
        state="W n",
        source="arXiv 2006.16236, the window arXiv 2004.05150",
        note="the same mixer as linear attention with a window as support",
    ),
)
