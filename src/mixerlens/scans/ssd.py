"""Mamba-2's scan (state space duality), linear in time and memory.

    S_t = exp(dt_t A) S_{t-1} + dt_t B_t x_t^T,    y_t = S_t^T C_t        (every head by itself)

Source: Dao and Gu, arXiv 2405.21060. Within a chunk the outputs are one masked product of the scores C B^T, which all
heads of a group share; only the state passes between chunks. Decays are formed and multiplied in float64.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from mixerlens.evolution.anchored import decay_matrix
from mixerlens.scans.recompute import Recomputed
from mixerlens.scans.shapes import axes, check, grouped

CHUNK = 64


def ssd_scan(
    x: Float[Tensor, "batch time heads head_dim"],
    dt: Float[Tensor, "batch time heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch time groups state"],
    C: Float[Tensor, "batch time groups state"],
    initial_state: Float[Tensor, "batch heads state head_dim"] | None = None,
) -> tuple[Float[Tensor, "batch time heads head_dim"], Float[Tensor, "batch heads state head_dim"]]:
    """The scan's output and last state, without D, gate, bias or softplus: dt is the positive step itself.

    Head h reads and writes with group h // (heads / groups). Differentiable once in every argument, the initial state
    included. All arguments share one floating dtype (float32 or float64). Raises InputError on shapes or dtypes that
    do not fit together.
    """
    axes("x", x, 4, "(batch, time, heads, head_dim)")
    axes("B", B, 4, "(batch, time, groups, state)")
    batch, time, heads, dim = x.shape
    groups, state = B.shape[2:]
    grouped("B and C", groups, heads)
    wanted = {"dt": (dt, (batch, time, heads)), "A": (A, (heads,))}
    wanted |= {name: (tensor, (batch, time, groups, state)) for name, tensor in (("B", B), ("C", C))}
    check(("x", x), {**wanted, "initial_state": (initial_state, (batch, heads, state, dim))})
    if initial_state is None:
        initial_state = x.new_zeros(batch, heads, state, dim)
    if time == 0:
        return x.new_zeros(x.shape), initial_state
    return Recomputed.apply(_block, CHUNK, 1, initial_state, A, x, dt, B, C)  # pyright: ignore[reportReturnType]


def _block(state: Tensor, A: Tensor, x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    groups = B.shape[2]
    a = (dt.double() * A.double()).exp().transpose(1, 2)  # (batch, heads, steps)
    mask, since, until = (tensor.unflatten(1, (groups, -1)) for tensor in decay_matrix(a, x.dtype))
    write = (
        (x * dt.unsqueeze(-1)).transpose(1, 2).unflatten(1, (groups, -1))
    )  # (batch, groups, heads a group, steps, dim)
    read, key = (tensor.transpose(1, 2).unsqueeze(2) for tensor in (C, B))  # (batch, groups, 1, steps, state)
    old = state.unflatten(1, (groups, -1))
    since, until = (tensor.to(x.dtype).unsqueeze(-1) for tensor in (since, until))
    y = (read @ key.mT * mask) @ write + since * (read @ old)
    new = since[..., -1:, :] * old + key.mT @ (until * write)
    return y.flatten(1, 2).transpose(1, 2), new.flatten(1, 2)
