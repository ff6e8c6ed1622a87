"""Products of decays inside one chunk, by recursive halving.

The product a[j+1] ... a[i] between two tokens on either side of a midpoint factors at the midpoint, so the bottom-left
block of [lo, hi) is the outer product of a forward and a reversed product. No logarithm, no division, no exp(-cumsum):
exact zeros, negative, growing and complex decays and those that underflow are all treated alike. Vectors are float64
(complex128); only the factors of a tile are cast down.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad


class Halving:
    """The products of a chunk's decays a (..., c, n), grown from single tokens to the whole chunk.

    Iterating doubles the blocks and yields, for every pair of neighbouring ones, what crosses their border:
    (left, right), each (..., pairs, half, n), with left[j] = a[j+1] ... a[border - 1], right[i] = a[border] ... a[i].
    Take what is yielded before going on. Afterwards

    forward: a[0] ... a[i], backward: a[j+1] ... a[c-1], both (..., c, n).

    Only ever multiplies, so that no derivative divides by a decay.
    """

    def __init__(self, a: Tensor) -> None:
        self.size = a.shape[-2]
        self.full = 1 << (self.size - 1).bit_length()
        self._forward = pad(a, (0, 0, 0, self.full - self.size), value=1.0)
        if self.full == self.size and not a.requires_grad:
            self._forward = a.clone(memory_format=torch.contiguous_format)  # changed in place below
        self._backward = torch.ones_like(self._forward)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        half = 1
        while half < self.full:
            pairs = (-1, 2, half)
            (first, second), (left, right) = (
                x.unflatten(-2, pairs).unbind(-3) for x in (self._forward, self._backward)
            )
            yield left, second
            if self._forward.requires_grad:
                self._forward = torch.stack([first, second * first[..., -1:, :]], -3).flatten(-4, -2)
                self._backward = torch.stack([left * second[..., -1:, :], right], -3).flatten(-4, -2)
            else:
                left.mul_(second[..., -1:, :])
                second.mul_(first[..., -1:, :])
            half *= 2

    @property
    def forward(self) -> Tensor:
        return self._forward[..., : self.size, :]

    @property
    def backward(self) -> Tensor:
        return self._backward[..., : self.size, :]


def products(a: Tensor) -> tuple[Tensor, Tensor]:
    """a[0] ... a[i] and a[j+1] ... a[c-1] for a (..., c, n)."""
    halving = Halving(a)
    for _ in halving:
        pass
    return halving.forward, halving.backward


def _quarters(first: Tensor, cross: Tensor, second: Tensor) -> Tensor:
    """[[first, 0], [cross, second]] on the token axes of (..., rows, s, columns, t)."""
    top = pad(first, (0, 0, 0, first.shape[-2]))
    return torch.cat([top, torch.cat([cross, second], -2)], -4)


def decay_matrix(a: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """D[i, j] = a[j+1] * ... * a[i] for j <= i (1 on the diagonal), 0 above, in dtype, and the chunk's two products.

    a: (..., c) -> D (..., c, c), forward (..., c), backward (..., c); see ``Halving``.
    """
    halving = Halving(a.unsqueeze(-1))
    blocks = torch.ones(*a.shape[:-1], halving.full, 1, 1, 1, 1, dtype=dtype, device=a.device)
    for left, right in halving:
        cross = right.to(dtype)[..., None, None] * left.to(dtype)[..., None, None, :, :]
        blocks = _quarters(blocks[..., 0::2, :, :, :, :], cross, blocks[..., 1::2, :, :, :, :])
    size = halving.size
    return blocks[..., 0, :size, 0, :size, 0], halving.forward[..., 0], halving.backward[..., 0]


def decayed_scores(query: Tensor, key: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """S[i, j] = sum_n query[i, n] key[j, n] a[j+1, n] ... a[i, n] for j <= i, and the chunk's two products.

    (..., c, n) three times -> S (..., c, c), forward and backward (..., c, n); see ``Halving``. Leading axes broadcast.
    """
    scores, forward, backward = decayed_scores_of_all(query.unsqueeze(-2), key.unsqueeze(-2), a)
    return scores[..., 0, 0, :, :], forward, backward


def decayed_scores_of_all(query: Tensor, key: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The scores of s queries and t keys a token, which share the decays.

    query (..., c, s, n), key (..., c, t, n), a (..., c, n) -> S (..., s, t, c, c), forward and backward (..., c, n).
    """
    halving, dtype = Halving(a), query.dtype
    fill = (0, 0, 0, 0, 0, halving.full - halving.size)
    query, key = pad(query, fill), pad(key, fill)
    leading = torch.broadcast_shapes(query.shape[:-3], key.shape[:-3], a.shape[:-2])
    blocks = (query @ key.mT).expand(*leading, -1, -1, -1).unsqueeze(-2).unsqueeze(-4)
    for left, right in halving:
        pairs = (-1, 2, right.shape[-2])
        read = query.unflatten(-3, pairs).select(-4, 1) * right.to(dtype).unsqueeze(-2)
        write = key.unflatten(-3, pairs).select(-4, 0) * left.to(dtype).unsqueeze(-2)
        crossing = (read.flatten(-3, -2) @ write.flatten(-3, -2).mT).unflatten(-1, write.shape[-3:-1])
        crossing = crossing.unflatten(-3, read.shape[-3:-1])
        blocks = _quarters(blocks[..., 0::2, :, :, :, :], crossing, blocks[..., 1::2, :, :, :, :])
    size = halving.size
    scores = blocks[..., 0, :size, :, :size, :].movedim((-3, -1), (-4, -3))
    return scores, halving.forward, halving.backward
