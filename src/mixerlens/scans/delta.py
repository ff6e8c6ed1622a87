"""The (gated) delta rule's scan, linear in time and memory.

    S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,    y_t = S_t^T q_t        (every head by itself)

Sources: Yang et al., arXiv 2406.06484 (DeltaNet) and 2412.06464 (gated). Within a chunk the tokens' corrected values
solve one unit-triangular system, in float64 as the correlated keys of a chunk may ask for; only the state passes
between chunks. Decays are formed and multiplied in float64. What is below the smallest normal number of its dtype
counts as 0.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.once import differentiable_once
from mixerlens.scans.delta_blocks import Part, parts
from mixerlens.scans.delta_gradients import Gradients
from mixerlens.scans.shapes import axes, check, grouped
from mixerlens.subnormals import subnormals_as_zero

KEPT = 32 << 20  # bytes kept for the backward pass at most, but for the states between blocks


def gated_delta_scan(
    query: Float[Tensor, "batch time groups state"],
    key: Float[Tensor, "batch time groups state"],
    value: Float[Tensor, "batch time heads dim"],
    log_decay: Float[Tensor, "batch time heads"] | None,
    beta: Float[Tensor, "batch time heads"],
    initial_state: Float[Tensor, "batch heads state dim"] | None = None,
) -> tuple[Float[Tensor, "batch time heads dim"], Float[Tensor, "batch heads state dim"]]:
    """S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T and y_t = S_t^T q_t, a head: all y, the last S.

    g is `log_decay`; without it nothing decays (DeltaNet). Nothing is normalised or scaled.

    Groups divide the heads; head h uses group h // (heads / groups). Differentiable once in every argument, the initial
    state included. All arguments share one floating dtype (float32 or float64). Raises InputError on shapes or dtypes
    that do not fit together. Chunks are products of whole matrices: a NaN or an infinity reaches the earlier outputs of
    its chunk too.
    """
    axes("value", value, 4, "(batch, time, heads, dim)")
    axes("key", key, 4, "(batch, time, groups, state)")
    batch, time, heads, dim = value.shape
    groups, state = key.shape[2:]
    grouped("query and key", groups, heads)
    wanted = {name: (tensor, (batch, time, groups, state)) for name, tensor in (("key", key), ("query", query))}
    wanted |= {name: (tensor, (batch, time, heads)) for name, tensor in (("log_decay", log_decay), ("beta", beta))}
    check(("value", value), ("key", key), {**wanted, "initial_state": (initial_state, (batch, heads, state, dim))})
    if initial_state is None:
        initial_state = value.new_zeros(batch, heads, state, dim)
    if time == 0:
        return value.new_zeros(value.shape), initial_state
    arguments = (query, key, value, log_decay, beta, initial_state)
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in arguments)):
        return _forward(*arguments)[:2]
    return _Scan.apply(*arguments)  # pyright: ignore[reportReturnType]


def _forward(query, key, value, log_decay, beta, initial_state, keep: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Output, last state, and if asked for what the backward pass is spared: see `_kept`."""
    y, last = (torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (value, initial_state))
    pieces = parts(query, key, value, log_decay, beta)
    kept = _kept(pieces, last) if keep else None
    with torch.inference_mode(), subnormals_as_zero():  # in inference mode, calls cost less
        _share(pieces, kept, filled=False)
        for part in pieces:
            state = part.state(initial_state).to(torch.float64, memory_format=torch.contiguous_format, copy=True)
            for number, block in enumerate(part.blocks()):
                if kept is not None and kept.ndim > 1:
                    part.state(kept)[number] = state
                block.scan(state)
                block.outputs(part.heads_of(y))
            part.state(last).copy_(state)
    return y, last, kept if kept is not None else last.new_empty(0)


def _kept(pieces: list[Part], state: Tensor) -> Tensor:
    """Room for all that the blocks compute, in one row, or if that exceeds KEPT for the states before the blocks."""
    needed = sum(part.needed for part in pieces)
    if needed * state.element_size() <= KEPT:
        return state.new_empty(needed)
    return state.new_empty(max(part.count for part in pieces), *state.shape)


def _share(pieces: list[Part], kept: Tensor | None, filled: bool) -> None:
    if kept is not None and kept.ndim == 1:
        for part, memory in zip(pieces, kept.split([part.needed for part in pieces]), strict=True):
            part.keep(memory, filled)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor | None):
        y, last, kept = _forward(*arguments, keep=True)
        ctx.save_for_backward(*arguments[:-1], kept)
        return y, last

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *outer: Tensor):
        (*arguments, kept), (grad_y, grad_last) = ctx.saved_tensors, outer
        pieces = parts(*arguments)
        new = torch.zeros_like if pieces[0].shared else torch.empty_like
        into = [None if t is None else new(t, memory_format=torch.contiguous_format) for t in arguments]
        grad_initial = torch.empty_like(grad_last)
        with torch.inference_mode(), subnormals_as_zero():
            _share(pieces, kept, filled=True)
            for part in pieces:
                adjoint = part.state(grad_last).clone(memory_format=torch.contiguous_format)
                states = [adjoint] * part.count if kept.ndim == 1 else part.state(kept)[: part.count].unbind(0)
                for block, state in zip(part.blocks(back=True), reversed(states), strict=True):
                    block.scan(state.to(torch.float64, memory_format=torch.contiguous_format, copy=True))
                    Gradients(block, part.heads_of(grad_y)).run(adjoint, into)
                part.state(grad_initial).copy_(adjoint)
        return *into, grad_initial
