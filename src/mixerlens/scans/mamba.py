"""Mamba's selective scan as one differentiable function, linear in time and memory on a CPU.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,    y_t = C_t^T h_t        (every channel by itself)

Source: Gu and Dao, arXiv 2312.00752. Written for training: only the states at chunk borders are kept, and the backward
pass recomputes a chunk's states before it walks the chunk's adjoint recurrence

    l_t = C_t y'_t + exp(dt_{t+1} A) l_{t+1}

back in time, so nothing of size time x channels x state ever exists. Each step rounds as the plain recurrence does in
the arguments' dtype; for coefficients that stay exact over long products of decays use `families.mamba`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import InputError

BUDGET = 4 << 20  # bytes of one chunk buffer: four of them stay near the cache
LONGEST = 16  # steps a chunk: more would not make it faster, only larger


def selective_scan(
    x: Float[Tensor, "batch time channels"],
    dt: Float[Tensor, "batch time channels"],
    A: Float[Tensor, "channels state"],
    B: Float[Tensor, "batch time state"],
    C: Float[Tensor, "batch time state"],
    initial_state: Float[Tensor, "batch channels state"] | None = None,
) -> tuple[Float[Tensor, "batch time channels"], Float[Tensor, "batch channels state"]]:
    """The scan's output and last state, without D, gate, bias or softplus: dt is the positive step itself.

    Differentiable once in every argument, the initial state included. All arguments share one floating dtype (float32
    or float64). Raises InputError on shapes or dtypes that do not fit together.
    """
    batch, time, channels, state = _sizes(x, dt, A, B, C, initial_state)
    if initial_state is None:
        initial_state = x.new_zeros(batch, channels, state)
    if time == 0:
        return x.new_zeros(batch, 0, channels), initial_state
    return _Scan.apply(x, dt, A, B, C, initial_state)  # pyright: ignore[reportReturnType]


def _sizes(x, dt, A, B, C, initial_state) -> tuple[int, int, int, int]:
    if x.ndim != 3 or A.ndim != 2:
        raise InputError(f"x must be (batch, time, channels) and A (channels, state), not {_s(x)} and {_s(A)}")
    batch, time, channels = x.shape
    state = A.shape[1]
    wanted = {
        "dt": (dt, (batch, time, channels)),
        "A": (A, (channels, state)),
        "B": (B, (batch, time, state)),
        "C": (C, (batch, time, state)),
    }
    if initial_state is not None:
        wanted["initial_state"] = (initial_state, (batch, channels, state))
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise InputError(f"{name} must be {shape} beside x of {_s(x)} and A of {_s(A)}, not {_s(tensor)}")
        if tensor.dtype != x.dtype or x.dtype not in (torch.float32, torch.float64):
            raise InputError(f"all arguments must share float32 or float64; x is {x.dtype}, {name} is {tensor.dtype}")
    return batch, time, channels, state


def _s(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


class _Scan(torch.autograd.Function):
    """States are laid out (batch, state, channels): channels last, so that every product runs along long rows."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, initial_state):
        time = x.shape[1]
        rates = (A * math.log2(math.e)).T.contiguous()  # exp2 is the faster exponential
        state = initial_state.transpose(1, 2).contiguous()
        chunk = _chunk(state)
        decay, states = (state.new_empty(chunk, *state.shape) for _ in range(2))
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        borders = []
        for start in range(0, time, chunk):
            span = slice(start, min(start + chunk, time))
            borders.append(state)
            _, h = _states(x, dt, rates, B, span, state, decay, states)
            y[:, span] = torch.matmul(_row(C, span), h).squeeze(-2).transpose(0, 1)
            state = h[-1].clone()
        ctx.save_for_backward(x, dt, B, C, rates, *borders)
        return y, state.transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, grad_state):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, dt, B, C, rates, *borders = ctx.saved_tensors
        time = x.shape[1]
        adjoint = grad_state.transpose(1, 2).contiguous()  # dL/dh_t as seen from the steps after t
        chunk = _chunk(adjoint)
        decay, states, adjoints = (adjoint.new_empty(chunk, *adjoint.shape) for _ in range(3))
        grad_x, grad_dt = torch.empty_like(x), torch.empty_like(dt)
        grad_B, grad_C = torch.empty_like(B), torch.empty_like(C)
        grad_A = torch.zeros_like(rates)
        for start, border in zip(reversed(range(0, time, chunk)), reversed(borders), strict=True):
            span = slice(start, min(start + chunk, time))
            steps = span.stop - span.start
            a, h = _states(x, dt, rates, B, span, border, decay, states)
            gy, step, write = (_row(tensor, span) for tensor in (grad_y, dt, x))  # (steps, batch, 1, channels)
            grad_C[:, span] = torch.matmul(gy, h.transpose(-1, -2)).squeeze(-2).transpose(0, 1)
            l = torch.mul(_row(C, span).transpose(-1, -2), gy, out=adjoints[:steps])
            for t in reversed(range(steps)):
                l[t].add_(adjoint)
                adjoint = torch.mul(l[t], a[t], out=a[t])  # dL/dh_{t-1} through h_t; a_t itself is not needed again
            adjoint = adjoint.clone()
            grad_B[:, span] = torch.matmul(step * write, l.transpose(-1, -2)).squeeze(-2).transpose(0, 1)
            written = torch.matmul(_row(B, span), l)  # sum over the state of B l
            grad_x[:, span] = (written * step).squeeze(-2).transpose(0, 1)
            # a now holds l_t a_t; the derivative through the decay is that times h_{t-1}
            a[1:].mul_(h[:-1])
            a[0].mul_(border)
            grad_A += torch.mul(a, step, out=l).sum((0, 1))
            through_decay = a.mul_(rates).sum(-2, keepdim=True)
            grad_dt[:, span] = (through_decay * math.log(2) + written * write).squeeze(-2).transpose(0, 1)
        return grad_x, grad_dt, grad_A.T, grad_B, grad_C, adjoint.transpose(1, 2)


def _chunk(state: Tensor) -> int:
    return max(1, min(LONGEST, BUDGET // max(1, state.numel() * state.element_size())))


def _row(tensor: Tensor, span: slice) -> Tensor:
    """The span's steps as rows, time first: (steps, batch, 1, size)."""
    return tensor[:, span].transpose(0, 1).contiguous().unsqueeze(-2)


def _states(x, dt, rates, B, span: slice, state: Tensor, decay: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """The decays and the states of a span, written into the two buffers: (steps, batch, state, channels)."""
    steps = span.stop - span.start
    step = _row(dt, span)
    a = torch.mul(step, rates, out=decay[:steps])
    torch.exp2(a, out=a)
    h = torch.mul(_row(B, span).transpose(-1, -2), step * _row(x, span), out=states[:steps])
    for t in range(steps):
        state = h[t].addcmul_(a[t], state)
    return a, h
