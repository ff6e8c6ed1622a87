"""Softmax attention: A_t = I (or a rotation, or a bias block), phi = exp, eta = the row sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Evolution, Identity, Rotation, Unipotent
from mixerlens.evolution.rotation import rotate
from mixerlens.families.checks import tensors
from mixerlens.families.draw import Draw
from mixerlens.families.family import Family, register
from mixerlens.normalizer import RowSum, RowSumSink
from mixerlens.readout import Exp, Softcap
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["softmax_attention"]


def softmax_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time kv_heads dim"],
    scale: float | None = None,
    rope: Float[Tensor, " pairs"] | None = None,
    rope_layout: str = "half",
    alibi: Float[Tensor, " heads"] | None = None,
    window: int | None = None,
    causal: bool = True,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = sum_j softmax_j(scale q_i^T R((j - i) rope) k_j - alibi (i - j)) v_j.

    query (batch, time, heads, dim), key (batch, time, kv_heads, dim) with kv_heads dividing heads.
    scale: default 1 / sqrt(dim). rope: angles in radians a token, (pairs,) with pairs <= dim / 2; fewer pairs turn
    the first 2 pairs dimensions only (partial rotary). rope_layout: "half" (llama) or "interleaved" (GPT-J).
    alibi: slopes (heads,). window: tokens seen, itself included (i - window < j <= i; |i - j| < window when not
    causal). softcap: scores become cap tanh(score / cap). sinks: (heads,) scores that take mass and give no value.
    segments: (batch, time) integers, -1 = padding. State: grows with the sequence (a KV cache).

    RoPE is the evolution A = R(-rope); a bidirectional mixer has no evolution, so there q and k are turned instead.
    Raises InputError for sizes that do not fit, UnsupportedError for ALiBi that is bidirectional or combined with
    RoPE.
    Source: arXiv 1706.03762; RoPE 2104.09864; ALiBi 2108.12409.
    """
    tensors(query=query, key=key)
    if query.dim() != 4 or key.dim() != 4:
        raise InputError(f"query and key must be (batch, time, heads, dim): {tuple(query.shape)}, {tuple(key.shape)}")
    dim = query.shape[-1]
    key = key * (dim**-0.5 if scale is None else scale)
    evolution: Evolution = Identity()
    if alibi is not None:
        if rope is not None or not causal:
            raise UnsupportedError("ALiBi is exact for causal attention without RoPE only: drop one of them")
        query, key, evolution = with_bias(query, key, -alibi)
    if rope is not None:
        query, key, evolution = _with_rope(query, key, rope, rope_layout, causal)
    return CoefficientDynamics(
        query,
        key,
        evolution,
        readout=Exp() if softcap is None else Softcap(softcap),
        normalizer=RowSum() if sinks is None else RowSumSink(sinks),
        support=Support(causal, window, segments),
    )


def with_bias(query: Tensor, key: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Evolution]:
    """(q, 1, 0) and (k, 0, 1): the block adds to the score the offset of every token after the key's."""
    query = torch.cat([query, torch.ones_like(query[..., :1]), torch.zeros_like(query[..., :1])], -1)
    key = torch.cat([key, torch.zeros_like(key[..., :1]), torch.ones_like(key[..., :1])], -1)
    return query, key, Unipotent(offset)


def _with_rope(query: Tensor, key: Tensor, rope: Tensor, layout: str, causal: bool) -> tuple[Tensor, Tensor, Evolution]:
    dim, turned = query.shape[-1], 2 * rope.shape[-1]
    if dim % 2:
        raise InputError(f"rope needs an even head dimension, got {dim}")
    if rope.dim() != 1 or turned > dim:
        raise InputError(f"rope must be angles (pairs,) with at most {dim // 2} pairs, got shape {tuple(rope.shape)}")
    if turned < dim:  # partial rotary: put each plane's two dimensions where the full layout expects them
        if layout == "half":
            order = _partial_half(dim, turned, query.device)
            query, key = query[..., order], key[..., order]
        rope = pad(rope, (0, (dim - turned) // 2))
    if causal:
        return query, key, Rotation(-wide(rope), layout)
    phase = wide(torch.arange(query.shape[1], device=query.device))[None, :, None, None] * wide(rope)
    return rotate(query, phase, layout), rotate(key, phase, layout), Identity()


def _partial_half(dim: int, turned: int, device: torch.device) -> Tensor:
    """A permutation (scores do not change) that puts rotated pair i at (i, i + dim / 2)."""
    index = torch.arange(dim, device=device)
    first, second, rest = index[: turned // 2], index[turned // 2 : turned], index[turned:]
    half = rest.numel() // 2
    return torch.cat([first, rest[:half], second, rest[half:]])


def _softmax(name: str, title: str, source: str, evolution: str = "I", key: str = "k / sqrt n ; q", **row) -> Family:
    """A softmax architecture: ``options`` of a draw are what softmax_attention is given beside query and key."""
    options: Callable[[Draw], dict] = row.pop("options", lambda d: {})

    def example(d: Draw) -> dict:
        return {"query": d.vectors(), "key": d.vectors(), "value": d.values(), **options(d)}

    told: dict[str, Any] = {"readout": "exp", "normalizer": "row sum", "state": "grows", "recurrence": "grows"} | row
    return Family(name, title, softmax_attention, example, evolution, key, source=source, **told)


register(
    _softmax("softmax_attention", "Softmax attention", "arXiv 1706.03762", note="the state is the KV cache"),
    _softmax(
        "rope_attention",
        "Softmax attention with RoPE",
        "arXiv 2104.09864",
        evolution="R(-theta)",
        options=lambda d: {"rope": d.normal(d.dim // 2)},
    ),
    _softmax(
        "alibi_attention",
        "Softmax attention with ALiBi",
        "arXiv 2108.12409",
        evolution="unipotent, n + 2",
        key="(k, 0, 1) ; (q, 1, 0)",
        options=lambda d: {"alibi": d.uniform(d.heads)},
    ),
    _softmax(
        "sliding_window_attention",
        "Sliding-window softmax attention",
        "arXiv 2004.05150",
        options=lambda d: {"window": 7},
        note="the window is the support, i - W < j <= i",
    ),
    _softmax(
        "encoder_attention",
        "Bidirectional softmax attention",
        "arXiv 1810.04805",
        options=lambda d: {"causal": False},
        note="every j is in the support; no recurrence",
    ),
    _softmax(
        "softcap_attention",
        "Softmax over soft-capped scores (Gemma 2)",
        "arXiv 2408.00118",
        readout="exp(c tanh(z / c))",
        options=lambda d: {"softcap": 2.0},
    ),
    _softmax(
        "sink_attention",
        "Softmax attention with a sink (gpt-oss)",
        "arXiv 2508.10925",
        normalizer="row sum + exp(sink)",
        options=lambda d: {"sinks": d.normal(d.heads)},
    ),
    _softmax(
        "grouped_query_attention",
        "Grouped-query softmax attention",
        "arXiv 2305.13245",
        options=lambda d: {"key": d.vectors(heads=1), "value": d.values(heads=1)},
        note="head h reads group h // (heads / groups)",
    ),
)
