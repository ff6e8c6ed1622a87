"""Mamba's selective scan as one differentiable function, linear in time and memory.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,    y_t = C_t^T h_t        (every channel by itself)

Source: Gu and Dao, arXiv 2312.00752. Only the states between segments are kept; the backward pass recomputes a
segment's states before it walks the segment's adjoint recurrence

    l_t = C_t y'_t + exp(dt_{t+1} A) l_{t+1}

back in time, so nothing of size time x channels x state ever exists. The work goes in tiles of a few steps that stay in
a core's cache. Each step rounds as the plain recurrence does in the arguments' dtype (`docs` of `selective_scan` give
the error); for coefficients that stay exact over long products of decays use `families.mamba`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens import native, pages
from mixerlens.errors import InputError
from mixerlens.once import differentiable_once
from mixerlens.scans.mamba_gradients import Gradients
from mixerlens.scans.mamba_tiles import BACKWARD, FORWARD, SPAN, Part, Span, parts, shape
from mixerlens.scans.shapes import axes, check

KEPT = 32 << 20  # bytes of the states kept for the backward pass, before fewer are kept


def selective_scan(
    x: Float[Tensor, "batch time channels"],
    dt: Float[Tensor, "batch time channels"],
    A: Float[Tensor, "channels state"],
    B: Float[Tensor, "batch time state"],
    C: Float[Tensor, "batch time state"],
    initial_state: Float[Tensor, "batch channels state"] | None = None,
) -> tuple[Float[Tensor, "batch time channels"], Float[Tensor, "batch channels state"]]:
    """h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t and y_t = C_t^T h_t, a channel: all y, the last h.

    Without D, gate, bias or softplus: dt is the positive step itself.

    Differentiable once in every argument, the initial state included. All arguments share one floating dtype (float32
    or float64). Raises InputError on shapes or dtypes that do not fit together.

    In float32 every step rounds, as in any plain float32 recurrence, and a state that forgets little keeps the
    roundings. Relative to the largest output of 16384 tokens the error is 4e-7 for dt |A| from 0.01 on, 4e-6 where
    nothing decays, 2e-5 for dt |A| = 1e-5 (what exp(dt A) loses when it is rounded), and 2e-4 at worst where x, dt, B
    and C are constant, so that all roundings have one sign. Convert the arguments to float64 where that matters.
    """
    axes("x", x, 3, "(batch, time, channels)")
    axes("A", A, 2, "(channels, state)")
    batch, time, channels = x.shape
    state = A.shape[1]
    if A.shape[0] != channels:
        raise InputError(f"A must be (channels, state) with the {channels} channels of x, not {tuple(A.shape)}")
    wanted = {"dt": (dt, (batch, time, channels)), "A": (A, (channels, state))}
    wanted |= {name: (tensor, (batch, time, state)) for name, tensor in (("B", B), ("C", C))}
    check(("x", x), ("A", A), {**wanted, "initial_state": (initial_state, (batch, channels, state))})
    if initial_state is None:
        initial_state = x.new_zeros(batch, channels, state)
    if time == 0:
        return x.new_zeros(batch, 0, channels), initial_state
    arguments = (x, dt, A, B, C, initial_state)
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments)):
        library = native.takes(*arguments)
        return _forward(*arguments)[:2] if library is None else native.forward(library, *arguments)[:2]
    return _Scan.apply(*arguments)  # pyright: ignore[reportReturnType]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, dt, A, B, C, initial_state):
        ctx.library = native.takes(x, dt, A, B, C, initial_state)
        if ctx.library is None:
            ctx.every = _steps_between_kept(x, A)
            y, state, kept = _forward(x, dt, A, B, C, initial_state, ctx.every)
        else:
            y, state, (kept, ctx.every) = native.forward(ctx.library, x, dt, A, B, C, initial_state, KEPT)
        ctx.save_for_backward(x, dt, A, B, C, kept)
        return y, state

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *outer: Tensor):
        x, dt, A, B, C, kept = ctx.saved_tensors
        grad_y, grad_state = outer
        if ctx.library is not None:
            return native.backward(ctx.library, x, dt, A, B, C, native.Kept(kept, ctx.every), grad_y, grad_state)
        into = {name: pages.empty(*t.shape, dtype=t.dtype, device=t.device) for name, t in (("x", x), ("dt", dt))}
        into |= {
            name: torch.zeros_like(t, memory_format=torch.contiguous_format)
            for name, t in zip("ABC", (A, B, C), strict=True)
        }
        grad_initial = torch.empty_like(grad_state)
        with torch.inference_mode():  # calls cost less
            for part in parts(BACKWARD, x, dt, A, B, C):
                gradients = Gradients(part, grad_y, grad_state, into, kept, ctx.every)
                gradients.run()
                part.state(grad_initial).copy_(gradients.adjoint)
        return *into.values(), grad_initial


def _steps_between_kept(x: Tensor, A: Tensor) -> int:
    """Steps between two kept states: one backward tile, or more where all kept states would exceed KEPT."""
    steps = shape(BACKWARD, x, A)[2]
    kept = -(-x.shape[1] // steps) * x.shape[0] * A.numel() * A.element_size()
    return steps * max(1, -(-kept // KEPT))


def _forward(x, dt, A, B, C, initial_state, every: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Output, last state, and the states before every so many steps, (count, batch, state, channels)."""
    time, (batch, channels, size) = x.shape[1], initial_state.shape
    like = {"dtype": x.dtype, "device": x.device}
    y, last = pages.empty(*x.shape, **like), torch.empty_like(initial_state)
    kept = pages.empty(-(-time // every) if every else 0, batch, size, channels, **like)
    with torch.inference_mode():  # calls cost less
        for part in parts(FORWARD, x, dt, A, B, C):
            _forward_part(part, initial_state, y, last, kept, every)
    return y, last, kept


def _forward_part(part: Part, initial_state: Tensor, y: Tensor, last: Tensor, kept: Tensor, every: int) -> None:
    state, out, mine = part.state(initial_state).contiguous(), part.of(y), part.kept(kept).unbind(0)
    if every:
        mine[0].copy_(state)
    whole = Span(part, min(SPAN, len(out)))
    for lo in range(0, len(out), SPAN):
        span, at = whole if len(out) - lo >= SPAN else Span(part, len(out) - lo), lo
        for tile in span.outputs(lo, state, out):
            state = tile.rows[-1]
            if every:
                first, at = at, at + len(tile.rows)  # the tile holds the states before steps first + 1 .. at
                for number in range(first // every + 1, min(at // every + 1, len(mine))):
                    mine[number].copy_(tile.rows[number * every - 1 - first])
        if len(span.pieces) % 2:  # the next span fills this tile at once
            state = span.state.copy_(state)
    part.state(last).copy_(state)
