"""What is computed in place of a library's scan function: the same casts, and one of our scans between them.

A replaced function is one row in `REPLACEMENTS`: its parameters, and a function from its arguments by name to what it
would have returned. Everything around the recurrence - step sizes, skip, gate, normalisation, scale - is done here as
the replaced function does it, in the same dtypes, so that both differ by the rounding of the recurrence alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixerlens.capture.translate.delta import EPSILON
from mixerlens.capture.translate.ssm import step_size
from mixerlens.scans import gated_delta_scan, selective_scan, ssd_scan

Named = dict[str, Any]


@dataclass(frozen=True)
class Replacement:
    """scan: the name in `mixerlens.scans`. mixer: what it is, for messages.

    needed: parameters that the function must have. known: further ones whose meaning is known; a function with any
    other is of an unknown version. state: the parameter that asks for the last state. tokens: parameters with a time
    axis, and which one it is. empty: arguments that must not be given, be they parameters or swallowed.
    """

    scan: str
    mixer: str
    compute: Callable[[Named], Any]
    state: str
    tokens: tuple[tuple[str, ...], int]
    needed: tuple[str, ...]
    known: tuple[str, ...] = ()
    empty: tuple[str, ...] = ("cu_seqlens", "seq_idx")


def mamba(a: Named) -> Any:
    """hidden_states, dt, z (batch, channels, time), B and C (batch, state, time), state (batch, channels, state).

    The function rounds B and the values to float32, its states are as wide as A and dt, its outputs as the values.
    """
    x, dt, B, C = (_packed(a[name].transpose(1, 2)) for name in ("hidden_states", "dt", "B", "C"))
    dt = step_size(dt, a["delta_bias"], a["delta_softplus"])
    wide = torch.promote_types(torch.promote_types(a["A"].dtype, dt.dtype), torch.float32)
    y, state = selective_scan(x.float().to(wide), dt.to(wide), a["A"].to(wide), B.float().to(wide), C.to(wide))
    y = y.to(x.dtype)
    if a["D"] is not None:
        y = y + x * a["D"]
    if a["z"] is not None:
        y = y * F.silu(a["z"].transpose(1, 2))
    y = y.transpose(1, 2)
    return (y, state) if a["return_last_state"] else y


def _packed(x: Tensor) -> Tensor:
    """(batch, time, ...) as it is, but with each token's numbers side by side in memory.

    The convolutions before the scans leave tokens side by side instead. A matrix is turned in blocks, which is three
    times as fast as torch's copy of the whole tensor, and everything after it runs along the rows of the scan and of
    the projection that follows.
    """
    if x.stride(-1) == 1 or x.stride(1) != 1:
        return x
    rows = [row.flatten(1).contiguous() for row in x]
    return (torch.stack(rows) if len(rows) > 1 else rows[0][None]).view(x.shape)


def mamba2(a: Named) -> Any:
    """hidden_states (batch, time, heads, dim), dt (batch, time, heads), B and C (batch, time, groups, state), states
    (batch, heads, dim, state). The function computes in float32 once it has its steps."""
    low, high = a["dt_limit"]
    dt = step_size(a["dt"], a["dt_bias"], a["dt_softplus"]).clamp(min=low, max=high).float()
    x, B, C = (_packed(a[name]).float() for name in ("hidden_states", "B", "C"))
    start = None if a["initial_states"] is None else a["initial_states"].to(x.dtype).mT
    y, state = ssd_scan(x, dt, a["A"].to(x.dtype), B, C, start)
    if a["D"] is not None:
        y = y + a["D"][..., None] * x
    y = y.contiguous()  # callers take views of both
    return (y, state.mT.contiguous()) if a["return_final_states"] else y


def gated_delta(a: Named) -> Any:
    """query, key (batch, time, key heads, dim), value (batch, time, heads, value_dim), g and beta (batch, time, heads),
    states (batch, heads, dim, value_dim). The function computes in float32."""

    def unit(x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + EPSILON)

    query, key, value, decay, beta = (_packed(a[name]).float() for name in ("query", "key", "value", "g", "beta"))
    if a["use_qk_l2norm_in_kernel"]:
        query, key = unit(query), unit(key)
    start = None if a["initial_state"] is None else a["initial_state"].to(value.dtype)
    y, state = gated_delta_scan(query * query.shape[-1] ** -0.5, key, value, decay, beta, start)
    return y.to(a["query"].dtype).contiguous(), state.contiguous() if a["output_final_state"] else None


STEPS = ("dt", "dt_bias", "dt_softplus", "dt_limit")

REPLACEMENTS: dict[str, Replacement] = {
    "mamba_selective_scan": Replacement(
        "selective_scan",
        "Mamba-1",
        mamba,
        "return_last_state",
        (("hidden_states", "dt", "B", "C", "z"), 2),
        ("hidden_states", "dt", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus", "return_last_state"),
        ("use_mambapy", "use_associative_scan"),  # other ways to the same numbers
    ),
    "mamba2_chunk_scan": Replacement(
        "ssd_scan",
        "Mamba-2",
        mamba2,
        "return_final_states",
        (("hidden_states", "dt", "B", "C"), 1),
        ("hidden_states", *STEPS, "A", "B", "C", "D", "initial_states", "return_final_states"),
        ("chunk_size",),
        ("cu_seqlens", "seq_idx", "z"),
    ),
    "torch_chunk_gated_delta_rule": Replacement(
        "gated_delta_scan",
        "gated delta rule",
        gated_delta,
        "output_final_state",
        (("query", "key", "value", "g", "beta"), 1),
        ("query", "key", "value", "g", "beta", "initial_state", "output_final_state", "use_qk_l2norm_in_kernel"),
        ("chunk_size",),
    ),
}
