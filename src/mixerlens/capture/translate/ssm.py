"""Scans of state space models: Mamba-1 and Mamba-2."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mixerlens.capture.recorder import keep

Named = dict[str, Any]


def step_size(dt: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    dt = dt if bias is None else dt + bias.to(dt.dtype)
    return F.softplus(dt) if softplus else dt


def mamba(a: Named, output: Any) -> Named:
    """x, dt, z (batch, channels, time), B and C (batch, state, time): one head a channel, one value a head."""

    def by_time(x: Tensor) -> Tensor:
        return keep(x.transpose(1, 2))

    x, scanned = a["hidden_states"], output[0] if isinstance(output, tuple) else output
    bias = None if a["delta_bias"] is None else a["delta_bias"][:, None]
    skip = None if a["D"] is None else (x * a["D"][None, :, None]).to(x.dtype)
    return {
        "arguments": {
            "A": keep(a["A"]),
            "B": by_time(a["B"]),
            "C": by_time(a["C"]),
            "dt": by_time(step_size(a["dt"], bias, a["delta_softplus"])),
        },
        "values": by_time(x)[..., None],
        "skip": None if skip is None else by_time(skip)[..., None],
        "gate": None if a["z"] is None else by_time(F.silu(a["z"]))[..., None],
        "output": by_time(scanned)[..., None],
        "compute_dtype": x.dtype,
    }


def mamba2(a: Named, output: Any) -> Named:
    """x (batch, time, heads, dim), dt (batch, time, heads), B and C (batch, time, groups, state); states (batch, heads,
    dim, state)."""
    x, scanned = a["hidden_states"], output[0] if isinstance(output, tuple) else output
    dt = step_size(a["dt"], a["dt_bias"], a["dt_softplus"]).clamp(*a["dt_limit"])
    return {
        "arguments": {"A": keep(a["A"]), "B": keep(a["B"]), "C": keep(a["C"]), "dt": keep(dt)},
        "values": keep(x),
        "skip": None if a["D"] is None else keep(x * a["D"][:, None]),
        "initial_state": None if a["initial_states"] is None else keep(a["initial_states"].mT),
        "output": keep(scanned),
        "compute_dtype": x.dtype,
    }
