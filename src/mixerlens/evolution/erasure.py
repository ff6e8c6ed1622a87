"""Delta rules that erase along their own impulses: A_t = P_t - c_t w_t w_t^T with impulses w_t, chunk by chunk.

With R_it = q_i^T P(t, i] w_t for t <= i, N_ts = w_t^T P(s, t-1] w_s for s < t, and rows w_t P_{t-1} ... P_lo in W_0,
``correction`` becomes, since (I - c (I + N c)^-1 N) = (I + c N)^-1 = T,

    intra = R T,   inject^T = W^T T,   emit = Q P - intra c W_0,   carry = P - inject^T c W_0

where the rows of W are the w_j behind the chunk. With R above W^T that is one solve from the right, in place, and then
one product. Not for gradients: they would not tell impulses from directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.evolution.base import Factors, Matrix
from mixerlens.evolution.correction import ScalarChain, StillChain

PIECE = 2**20  # bytes of a stack: few chunks at a time stay in the cache


def own(query: Tensor, impulse: Tensor, direction: Tensor, *gates: Tensor) -> bool:
    """Whether ``erased`` may be asked: impulses are directions, all is real, and no gradient has to tell them apart."""
    given = (query, impulse, direction, *gates)
    if any(x.is_complex() or (x.requires_grad and torch.is_grad_enabled()) for x in given):
        return False
    kind = torch.promote_types(impulse.dtype, direction.dtype)
    return torch.equal(impulse.to(kind), direction.to(kind))


def erased(decay: Tensor | None, query: Tensor, direction: Tensor, strength: Tensor) -> Factors:
    """The factors, float64, from query and direction w (batch | 1, heads | 1, chunk, dim), strength c and decay a
    (batch | 1, heads | 1, chunk), P_t = a_t I, None: 1; no autograd."""
    gates = [x.unsqueeze(-1) for x in (strength, decay) if x is not None]
    query, direction, *gates = torch.broadcast_tensors(query, direction, *gates)
    lead, (size, dim) = query.shape[:2], query.shape[2:]
    query, direction, strength, *decays = (x.flatten(0, 1) for x in (query, direction, *(x[..., 0] for x in gates)))
    count = len(query)
    solved, states = (query.new_empty(count, size + dim, n, dtype=torch.float64) for n in (size, dim))
    each = max(1, PIECE // (8 * (size + dim) ** 2)) if query.device.type == "cpu" else count
    for lo in range(0, count, each):
        part = slice(lo, lo + each)
        chain = ScalarChain(decays[0][part].double()) if decays else StillChain()
        q, w, c = (x[part].double() for x in (query, direction, strength))
        _close(chain, q, w, c, solved[part], states[part])
    solved, states = solved.unflatten(0, lead), states.unflatten(0, lead)
    intra, inject, emit, carry = (
        x[..., rows, :] for x in (solved, states) for rows in (slice(size), slice(size, None))
    )
    return Factors(intra, emit, inject.mT, Matrix(carry))


def _close(
    chain: ScalarChain | StillChain, query: Tensor, direction: Tensor, strength: Tensor, solved: Tensor, states: Tensor
) -> None:
    """intra above inject^T, (n, chunk + dim, chunk), and emit above carry, (n, chunk + dim, dim), from query and
    direction (n, chunk, dim) and strength (n, chunk)."""
    size, strength = strength.shape[1], strength.unsqueeze(-1)
    reads, overlaps = solved[:, :size], direction @ direction.mT
    torch.bmm(query, direction.mT, out=reads)
    chain.weigh_(reads, overlaps)
    solved[:, size:] = chain.leave(direction).mT
    system = overlaps.mul_(strength)
    torch.linalg.solve_triangular(system, solved, upper=False, left=False, unitriangular=True, out=solved)
    torch.bmm(solved, chain.enter(direction) * -strength, out=states)
    states[:, :size].add_(chain.read(query))
    states[:, size:].diagonal(dim1=1, dim2=2).add_(chain.last)
