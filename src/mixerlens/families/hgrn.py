"""HGRN2: gated linear attention whose key is what the forget gate leaves open."""

from __future__ import annotations

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.families.linear import gated_linear_attention
from mixerlens.shapes import wide, working

__all__ = ["hgrn2"]


def hgrn2(
    query: Inexact[Tensor, "batch time heads dim"],
    log_forget: Float[Tensor, "batch time heads dim"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = Diag(f_t) S_{t-1} + (1 - f_t) v_t^T, y_t = S_t^T q_t.

    query: the output gate o, (batch, time, heads, dim); log_forget: log f <= 0, the lower bound already in; values: the
    model's input i. State dim a value channel. Source: arXiv 2404.07904.
    """
    tensors(query=query, log_forget=log_forget)
    forgets("log_forget", log_forget, "it is the logarithm of a gate in (0, 1]")
    return gated_linear_attention(query, open_part(log_forget), log_forget, segments)


def open_part(log_forget: Tensor) -> Tensor:
    """1 - f from log f, without cancellation where the gate is nearly 1."""
    return -torch.expm1(wide(log_forget)).to(working(log_forget.dtype))


register(
    Family(
        name="hgrn2",
        title="HGRN2",
        function=hgrn2,
        example=lambda d: {"query": d.vectors(), "log_forget": d.log_decays(d.dim), "value": d.values()},
        evolution="Diag(f_t)",
        key="1 - f ; q",
        state="n",
        source="arXiv 2404.07904",
    ),
)
