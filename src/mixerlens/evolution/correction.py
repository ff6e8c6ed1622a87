"""Rank-one corrections of an evolution whose products are known: A_t = P_t + left_t right_t^T, chunk by chunk.

An impulse x_j is moved by P and picks up, at every later token t, e_tj = right_t^T u_{t-1,j} times left_t. With
P(t, i] = P_i ... P_{t+1},

    u_ij = P(j, i] x_j + sum_{j < t <= i} P(t, i] left_t e_tj
    e_tj = right_t^T P(j, t-1] x_j + sum_{j < s < t} right_t^T P(s, t-1] left_s e_sj

which is one unit-triangular solve a chunk. All of it is made of inner products over P, in float64 (complex128): with
correlated keys float32 products lose 3e-6 and a float32 solve 5e-5, and a Neumann series diverges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.evolution.anchored import decay_matrix, decayed_scores_of_all, products
from mixerlens.evolution.base import Factors, Matrix
from mixerlens.shapes import spread


class Chain(Protocol):
    """The products of P over one chunk [lo, hi); rows and columns are (..., c, dim), one a token."""

    def scores(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
        """query_i^T P(j, i] key_j for j <= i, 0 above, of each query with each key: (..., queries, keys, c, c)."""
        ...

    def read(self, rows: Tensor) -> Tensor:
        """rows_i P_i ... P_lo."""
        ...

    def leave(self, columns: Tensor) -> Tensor:
        """P_{hi-1} ... P_{j+1} columns_j."""
        ...

    def whole(self, dim: int) -> Tensor:
        """P_{hi-1} ... P_lo: (..., dim, dim)."""
        ...


class DiagonalChain:
    """P_t = Diag(a_t), a (..., c, dim | 1)."""

    def __init__(self, a: Tensor) -> None:
        self.a = a
        self.forward, self.backward = products(a)

    def scores(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
        return decayed_scores_of_all(torch.stack(list(queries), -2), torch.stack(list(keys), -2), self.a)[0]

    def read(self, rows: Tensor) -> Tensor:
        return rows * self.forward

    def leave(self, columns: Tensor) -> Tensor:
        return columns * self.backward

    def whole(self, dim: int) -> Tensor:
        return torch.diag_embed(self.forward[..., -1, :].expand(*self.a.shape[:-2], dim))


class ScalarChain:
    """P_t = a_t I, a (..., c)."""

    def __init__(self, a: Tensor) -> None:
        self.between, forward, backward = decay_matrix(a, a.dtype)
        self.forward, self.backward = forward.unsqueeze(-1), backward.unsqueeze(-1)

    def scores(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
        return _products(queries, keys) * self.between[..., None, None, :, :]

    def read(self, rows: Tensor) -> Tensor:
        return rows * self.forward

    def leave(self, columns: Tensor) -> Tensor:
        return columns * self.backward

    def whole(self, dim: int) -> Tensor:
        return self.forward[..., -1:, :] * torch.eye(dim, dtype=self.forward.dtype, device=self.forward.device)

    @property
    def last(self) -> Tensor:
        """a_{hi-1} ... a_lo: (..., 1)."""
        return self.forward[..., -1, :]

    def enter(self, rows: Tensor) -> Tensor:
        """rows_i P_{i-1} ... P_lo."""
        return rows * pad(self.forward[..., :-1, :], (0, 0, 1, 0), value=1.0)

    def weigh_(self, reads: Tensor, overlaps: Tensor) -> None:
        """Inner products [i, j] become those over P(j, i] for j <= i, and for j < i over P(j, i - 1]; in place."""
        reads.mul_(self.between)
        overlaps[..., 1:, :].mul_(self.between[..., :-1, :])


class StillChain:
    """P_t = I."""

    last = 1

    def scores(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
        return _products(queries, keys).tril()

    def read(self, rows: Tensor) -> Tensor:
        return rows

    def leave(self, columns: Tensor) -> Tensor:
        return columns

    def whole(self, dim: int) -> Tensor:
        return torch.eye(dim, dtype=torch.float64)

    def enter(self, rows: Tensor) -> Tensor:
        return rows

    def weigh_(self, reads: Tensor, overlaps: Tensor) -> None:  # above the diagonal, overlaps are not looked at
        reads.tril_()


def _products(queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
    """query_i^T key_j of each query with each key: (..., queries, keys, c, c)."""
    products = torch.cat(list(queries), -2) @ torch.cat(list(keys), -2).mT
    return products.unflatten(-1, (len(keys), -1)).unflatten(-3, (len(queries), -1)).transpose(-3, -2)


def aligned(*tiles: Tensor) -> list[Tensor]:
    """Tiles (batch | 1, heads | groups | 1, ...) in float64, complex128 if one is complex, with groups spread."""
    heads = max(x.shape[1] for x in tiles)
    kind = torch.complex128 if any(x.is_complex() for x in tiles) else torch.float64
    return [spread(x.to(kind), heads) for x in tiles]


def corrected(chain: Chain, query: Tensor, key: Tensor, left: Tensor, right: Tensor) -> Factors:
    """The factors of P_t + left_t right_t^T from aligned tiles (batch | 1, heads | 1, c, dim)."""
    size, dim = query.shape[-2:]
    query, key, left, right = torch.broadcast_tensors(query, key, left, right)
    later = pad(right[..., 1:, :], (0, 0, 0, 1))  # what token t takes up, it reads behind the map of token t - 1
    (plain, reads), (taken, system) = (x.unbind(-3) for x in chain.scores([query, later], [key, left]).unbind(-4))
    start = torch.cat([right[..., :1, :].expand(*plain.shape[:-2], 1, dim), chain.read(later)[..., :-1, :]], -2)
    taken, system = (pad(x[..., :-1, :], (0, 0, 1, 0)) for x in (taken, system))
    solved = torch.linalg.solve_triangular(-system, torch.cat([taken, start], -1), upper=False, unitriangular=True)
    by_key, by_state = solved[..., :size], solved[..., size:]
    kept = chain.leave(left)
    return Factors(
        intra=(reads @ by_key).add_(plain),
        emit=(reads @ by_state).add_(chain.read(query)),
        inject=(by_key.mT @ kept).add_(chain.leave(key)),
        carry=Matrix((kept.mT @ by_state).add_(chain.whole(dim).to(query.device))),
    )
