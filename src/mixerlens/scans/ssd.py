"""Mamba-2's scan (state space duality), linear in time and memory.

    S_t = exp(dt_t A) S_{t-1} + dt_t B_t x_t^T,    y_t = S_t^T C_t        (every head by itself)

Source: Dao and Gu, arXiv 2405.21060. Within a chunk the outputs are one masked product of the scores C B^T, which all
heads of a group share; only the state passes between chunks, and it is read and written by one product a group. Decays
are formed and multiplied in float64. What is below the smallest normal number of its dtype counts as 0.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.once import differentiable_once
from mixerlens.scans.shapes import axes, check, grouped
from mixerlens.scans.ssd_parts import parts
from mixerlens.subnormals import subnormals_as_zero


def ssd_scan(
    x: Float[Tensor, "batch time heads head_dim"],
    dt: Float[Tensor, "batch time heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch time groups state"],
    C: Float[Tensor, "batch time groups state"],
    initial_state: Float[Tensor, "batch heads state head_dim"] | None = None,
) -> tuple[Float[Tensor, "batch time heads head_dim"], Float[Tensor, "batch heads state head_dim"]]:
    """S_t = exp(dt_t A) S_{t-1} + dt_t B_t x_t^T and y_t = S_t^T C_t, a head: all y, the last S.

    Without D, gate, bias or softplus: dt is the positive step itself.

    Head h reads and writes with group h // (heads / groups). Differentiable once in every argument, the initial state
    included. All arguments share one floating dtype (float32 or float64). Raises InputError on shapes or dtypes that
    do not fit together. Chunks are products of whole matrices: a NaN or an infinity reaches the earlier outputs of its
    chunk too.
    """
    axes("x", x, 4, "(batch, time, heads, head_dim)")
    axes("B", B, 4, "(batch, time, groups, state)")
    batch, time, heads, dim = x.shape
    groups, state = B.shape[2:]
    grouped("B and C", groups, heads)
    wanted = {"dt": (dt, (batch, time, heads)), "A": (A, (heads,))}
    wanted |= {name: (tensor, (batch, time, groups, state)) for name, tensor in (("B", B), ("C", C))}
    check(("x", x), ("B", B), {**wanted, "initial_state": (initial_state, (batch, heads, state, dim))})
    if initial_state is None:
        initial_state = x.new_zeros(batch, heads, state, dim)
    if time == 0:
        return x.new_zeros(x.shape), initial_state
    arguments = (x, dt, A, B, C, initial_state)
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments)):
        return _forward(*arguments)[:2]
    return _Scan.apply(*arguments)  # pyright: ignore[reportReturnType]


def _forward(x, dt, A, B, C, initial_state, keep: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Output, last state, and if asked for the states before every block, (blocks, batch, heads, state, dim)."""
    y, last = (torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (x, initial_state))
    pieces = parts(x, dt, A, B, C)
    kept = last.new_empty(len(pieces[0].blocks()) if keep else 0, *last.shape)
    with torch.inference_mode(), subnormals_as_zero():  # in inference mode, calls cost less
        for part in pieces:
            state, out = part.start(initial_state), part.of(y)
            for first, block in enumerate(part.blocks()):
                if keep:
                    part.finish(state, kept[first])
                part.forward(block, state, out)
            part.finish(state, last)
    return y, last, kept


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor):
        y, last, kept = _forward(*arguments, keep=True)
        ctx.save_for_backward(*arguments[:-1], kept)
        return y, last

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *outer: Tensor):
        (x, dt, A, B, C, kept), (grad_y, grad_last) = ctx.saved_tensors, outer
        into = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (x, dt)]
        into += [torch.zeros_like(A, dtype=torch.float64)]  # it adds up over all steps
        into += [torch.zeros_like(tensor, memory_format=torch.contiguous_format) for tensor in (B, C)]
        grad_initial = torch.empty_like(grad_last)
        with torch.inference_mode(), subnormals_as_zero():
            for part in parts(x, dt, A, B, C):
                adjoint = part.start(grad_last, "adjoint")
                for block, start in zip(reversed(part.blocks()), reversed(kept.unbind(0)), strict=True):
                    decays, state = part.decays(block, weighted=False), part.start(start)
                    states = part.room("states", len(block), *state.wide.shape)  # before each chunk
                    state.open(decays.total)
                    for number, span in enumerate(block):
                        states[number] = state.now()
                        if number + 1 < len(block):
                            part.write(span, number, decays, state)
                    adjoint.open(decays.total.flip(0))
                    for number in reversed(range(len(block))):
                        part.gradients(block[number], number, decays, states[number], adjoint, grad_y, into)
                    adjoint.close()
                part.finish(adjoint, grad_initial)
        return *into[:2], into[2].to(A.dtype), *into[3:], grad_initial
