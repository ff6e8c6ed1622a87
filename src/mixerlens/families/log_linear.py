"""Log-linear attention: the past in buckets of doubling length, each with a weight of its own."""

from __future__ import annotations

import torch
from jaxtyping import Inexact, Int
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Fenwick
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.shapes import spread
from mixerlens.support import Support

__all__ = ["log_linear_attention"]


def log_linear_attention(
    query: Inexact[Tensor, "batch time groups dim"],
    key: Inexact[Tensor, "batch time groups dim"],
    log_decay: Inexact[Tensor, "batch time heads"],
    level_weights: Inexact[Tensor, "batch time heads levels"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_t = sum_l level_weights_{t,l} q_t^T sum_{s in B_{t,l}} exp(sum_{s<r<=t} log_decay_r) k_s v_s^T.

    The buckets are a Fenwick tree's, with the tokens of a sequence numbered from 0: B_{t,0} is token t itself, and for
    every bit l - 1 that is set in t, B_{t,l} holds 2^(l - 1) tokens, the latest tokens in the smallest bucket. This is
    the form with Mamba-2's scalar decay; with all weights 1 it is Mamba-2.

    query, key (batch, time, heads | groups, dim), used as given; log_decay (batch, time, heads) <= 0 (positive values
    raise InputError); level_weights (batch, time, heads, levels), 1 + bit_length(T - 1) levels for T tokens, which is
    1 + log2 T where T is a power of two. With segments every run of tokens is numbered from 0; segments that are not
    in runs raise InputError. A state of ``levels`` blocks of dim numbers a value channel: (1 + log2 T) dim, read with
    level_weights (x) q and written at level 0. Source: arXiv 2506.04761.
    """
    tensors(query=query, key=key, log_decay=log_decay, level_weights=level_weights)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1]")
    support = Support(segments=segments)
    if level_weights.dim() != 4 or query.dim() != 4 or level_weights.shape[2] % query.shape[2]:
        raise InputError(
            f"level_weights must be (batch, time, heads, levels) with heads a multiple of the query's, got "
            f"{tuple(level_weights.shape)} for a query {tuple(query.shape)}"
        )
    if not support.contiguous:
        raise InputError("segments must be runs of tokens: a bucket of log-linear attention holds neighbours")
    levels = level_weights.shape[3]
    reads = level_weights.unsqueeze(-1) * spread(query, level_weights.shape[2], 2).unsqueeze(-2)
    written = pad(key, (0, (levels - 1) * key.shape[-1]))
    position = None if segments is None else _in_run(segments).unsqueeze(-1)
    evolution = Fenwick(levels, log_decay=log_decay, position=position)
    return CoefficientDynamics(reads.flatten(-2), written, evolution, support=support)


def _in_run(segments: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """Every token's number in its run of equal segments."""
    place = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    starts = pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
    return place - torch.where(starts, place, 0).cummax(1).values


register(
    Family(
        name="log_linear_attention",
        title="Log-linear attention (Mamba-2 form)",
        function=log_linear_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "log_decay": d.log_decays(most=0.2),
            "level_weights": d.gates(1 + (d.time - 1).bit_length()),
            "value": d.values(),
        },
        evolution="a (F_t (x) I), F_t a Fenwick merge",
        key="k at level 0 ; lambda (x) q",
        state="(log2 T + 1) n",
        recurrence="grows",
        source="arXiv 2506.04761",
        note="a level weight for every bucket of the past",
    ),
)
