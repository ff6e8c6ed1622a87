"""The (gated) delta rule's scan, linear in time and memory.

    S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,    y_t = S_t^T q_t        (every head by itself)

Sources: Yang et al., arXiv 2406.06484 (DeltaNet) and 2412.06464 (gated). Within a chunk the tokens' corrected values
solve one unit-triangular system, in float64 as the correlated keys of a chunk may ask for; only the state passes
between chunks. Decays are formed and multiplied in float64.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.evolution.anchored import decay_matrix
from mixerlens.scans.recompute import Recomputed
from mixerlens.scans.shapes import axes, check, grouped
from mixerlens.shapes import spread

CHUNK = 64


def gated_delta_scan(
    query: Float[Tensor, "batch time groups state"],
    key: Float[Tensor, "batch time groups state"],
    value: Float[Tensor, "batch time heads dim"],
    log_decay: Float[Tensor, "batch time heads"] | None,
    beta: Float[Tensor, "batch time heads"],
    initial_state: Float[Tensor, "batch heads state dim"] | None = None,
) -> tuple[Float[Tensor, "batch time heads dim"], Float[Tensor, "batch heads state dim"]]:
    """The scan's output and last state; without `log_decay` nothing decays (DeltaNet). Nothing is normalised or scaled.

    Groups divide the heads; head h uses group h // (heads / groups). Differentiable once in every argument, the initial
    state included. All arguments share one floating dtype (float32 or float64). Raises InputError on shapes or dtypes
    that do not fit together.
    """
    axes("value", value, 4, "(batch, time, heads, dim)")
    axes("key", key, 4, "(batch, time, groups, state)")
    batch, time, heads, dim = value.shape
    groups, state = key.shape[2:]
    grouped("query and key", groups, heads)
    wanted = {name: (tensor, (batch, time, groups, state)) for name, tensor in (("key", key), ("query", query))}
    wanted |= {name: (tensor, (batch, time, heads)) for name, tensor in (("log_decay", log_decay), ("beta", beta))}
    check(("value", value), {**wanted, "initial_state": (initial_state, (batch, heads, state, dim))})
    if initial_state is None:
        initial_state = value.new_zeros(batch, heads, state, dim)
    if time == 0:
        return value.new_zeros(value.shape), initial_state
    decay = [] if log_decay is None else [log_decay]
    return Recomputed.apply(_block, CHUNK, 0, initial_state, query, key, value, beta, *decay)  # pyright: ignore


def _block(
    state: Tensor, query: Tensor, key: Tensor, value: Tensor, beta: Tensor, log_decay: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    heads, steps, dtype = value.shape[2], value.shape[1], value.dtype
    query, key = (spread(tensor.transpose(1, 2), heads) for tensor in (query, key))
    a = torch.ones_like(beta) if log_decay is None else log_decay
    a = (a.double().exp() if log_decay is not None else a.double()).transpose(1, 2)
    mask, *ends = decay_matrix(a, torch.float64)
    since, until = (tensor.to(dtype).unsqueeze(-1) for tensor in ends)
    beta = beta.transpose(1, 2).unsqueeze(-1)
    corrected = beta * (value.transpose(1, 2) - since * (key @ state))
    system = (beta * (key @ key.mT)).double() * mask
    eye = torch.eye(steps, dtype=torch.float64, device=value.device)
    corrected = torch.linalg.solve_triangular(
        system.tril(-1) + eye, corrected.double(), upper=False, unitriangular=True
    ).to(dtype)
    y = (query @ key.mT * mask.to(dtype)) @ corrected + since * (query @ state)
    new = since[..., -1:, :] * state + key.mT @ (until * corrected)
    return y.transpose(1, 2), new
