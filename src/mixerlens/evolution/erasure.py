"""Delta rules that erase along their own impulses: A_t = P_t - c_t w_t w_t^T with impulses w_t, chunk by chunk.

With R_it = q_i^T P(t, i] w_t for t <= i, N_ts = w_t^T P(s, t-1] w_s for s < t, and rows w_t P_{t-1} ... P_lo in W_0,
``correction`` becomes, since (I - c (I + N c)^-1 N) = (I + c N)^-1 = T,

    intra = R T,   emit = Q P - R T c W_0,   inject = T^T W,   carry = P - W^T T c W_0       (W: w_j behind the chunk)

in half the products. Not for gradients: they would not tell impulses from directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.evolution.base import Factors, Matrix
from mixerlens.evolution.correction import ScalarChain, StillChain


def erased(chain: ScalarChain | StillChain, query: Tensor, direction: Tensor, strength: Tensor) -> Factors:
    """The factors from query, direction w (..., chunk, dim) and strength c (..., chunk), float64; no autograd."""
    size, dim = query.shape[-2:]
    reads, overlaps = query @ direction.mT, (direction @ direction.mT).mT  # symmetric: a view in columns
    chain.weigh_(reads, overlaps)
    strength = strength.unsqueeze(-1)
    right = direction.new_zeros(*reads.shape[:-2], size + dim, size).mT  # in columns too, as the solver wants them
    right[..., :size].diagonal(dim1=-2, dim2=-1).fill_(1)
    torch.mul(chain.enter(direction), strength, out=right[..., size:])
    solved = torch.linalg.solve_triangular(overlaps.mul_(strength), right, upper=False, unitriangular=True)
    rows, states = reads @ solved, chain.leave(direction).mT @ solved
    emit, carry = rows[..., size:], states[..., size:].neg_()
    carry.diagonal(dim1=-2, dim2=-1).add_(chain.last)
    return Factors(
        intra=rows[..., :size],
        emit=torch.sub(chain.read(query), emit, out=emit),
        inject=states[..., :size].mT,
        carry=Matrix(carry),
    )
