"""Lets transformers' Jamba train through the library's selective scan.

transformers indexes one tensor at every step of its own scan, which makes its backward pass quadratic in the length:
minutes where the library's scan takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mixerlens.scans import selective_scan


def mamba_selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """transformers' function of this name: hidden_states, dt, z (batch, channels, time); B, C (batch, state, time).

    Same result to rounding, in the arguments' common dtype; the options that choose among transformers' own algorithms
    have no meaning here.
    """
    if delta_bias is not None:
        dt = dt + delta_bias[:, None]
    if delta_softplus:
        dt = F.softplus(dt)
    dtype = torch.promote_types(torch.promote_types(hidden_states.dtype, A.dtype), torch.float32)
    x, steps, B, C = (tensor.transpose(1, 2).to(dtype) for tensor in (hidden_states, dt, B, C))
    y, state = selective_scan(x, steps, A.to(dtype), B, C)
    if D is not None:
        y = y + x * D
    y = y.transpose(1, 2)
    if z is not None:
        y = y * F.silu(z)
    return (y, state) if return_last_state else y


@contextmanager
def library_scan() -> Iterator[None]:
    """Within it, every Jamba mixer scans through the library; the original is put back also after an exception."""
    from transformers.models.jamba import modeling_jamba

    original = modeling_jamba.mamba_selective_scan
    modeling_jamba.mamba_selective_scan = mamba_selective_scan
    try:
        yield
    finally:
        modeling_jamba.mamba_selective_scan = original
