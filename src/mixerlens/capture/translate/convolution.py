"""Short causal convolutions, a filter a channel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixerlens.capture.recorder import keep
from mixerlens.errors import UnsupportedError

Named = dict[str, Any]


def causal_convolution(a: Named, output: Any) -> Named:
    """hidden_states (batch, channels, time), weight (channels, width), bias (channels,): one head a channel."""
    if a["activation"] is not None:
        raise UnsupportedError(f"its convolution is followed by {a['activation']}, which is not linear in the values")
    return convolution(a["hidden_states"], a["weight"].flip(-1), a["bias"], output)


def convolution(x: Tensor, taps: Tensor, bias: Tensor | None, output: Tensor) -> Named:
    """x and output (batch, channels, time); taps (channels, width), taps[:, 0] for the current token."""

    def by_time(x: Tensor) -> Tensor:
        return keep(x.transpose(1, 2))[..., None]

    return {
        "arguments": {"taps": keep(taps), "length": x.shape[-1]},
        "values": by_time(x),
        "skip": None if bias is None else by_time(bias[None, :, None].expand_as(output)),
        "output": by_time(output),
        "compute_dtype": x.dtype,
    }
