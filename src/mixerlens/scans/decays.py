"""Products of decays within chunks, for a backward pass written by hand: multiplications only, in float64.

A chunk is cut in blocks of 8 steps. Within a block all products are cumulative products; between blocks they factor at
the blocks' borders, so nothing is ever divided and nothing goes through a logarithm: zeros and underflow are exact.
(`evolution.anchored` halves instead, which autograd can pass through, at several times the cost.)
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 8


class Decays:
    """The products of a (..., steps), float64, with leading axes kept; factors of tiles come in `dtype`.

    since[i] = a[0] ... a[i], until[j] = a[j+1] ... a[last], total = a[0] ... a[last]. A weight, of the shape of a,
    multiplies the columns of the matrices, and nothing else.
    """

    def __init__(self, a: Tensor, dtype: torch.dtype, weight: Tensor | None = None) -> None:
        self.steps = a.shape[-1]
        self.size = size = min(BLOCK, self.steps)
        count = -(-self.steps // size)
        padding = (0, count * size - self.steps)
        a = torch.nn.functional.pad(a, padding, value=1.0).unflatten(-1, (count, size))
        within = _products(a)  # (..., count, size, size)
        right, left = within[..., 0] * a[..., :1], within[..., -1, :]
        whole = right[..., -1]
        between = _products(whole)  # [I, J] = whole[J+1] ... whole[I]
        before = torch.cat([torch.ones_like(whole[..., :1]), between[..., :-1, 0] * whole[..., :1]], -1)
        since, until = right * before.unsqueeze(-1), left * between[..., -1, :].unsqueeze(-1)
        self.since, self.until = (x.flatten(-2)[..., : self.steps].to(dtype) for x in (since, until))
        self.total = before[..., -1] * whole[..., -1]  # float64: it multiplies what is carried on
        crossing = torch.nn.functional.pad(between[..., :-1, :], (0, 0, 1, 0)).tril(-1)
        if weight is not None:
            weight = torch.nn.functional.pad(weight, padding).unflatten(-1, (count, size))
            left, within = left * weight, within.mul_(weight.unsqueeze(-2))
        self._rows = (right.unsqueeze(-1) * crossing.unsqueeze(-2)).flatten(-3, -2).to(dtype)  # (..., steps, count)
        self._columns = torch.diag_embed(left.to(dtype).mT).movedim(-3, -1).flatten(-2)  # (..., count, steps)
        self._within = within.to(dtype)

    def matrix(self, index: int | slice | tuple = slice(None), out: Tensor | None = None) -> Tensor:
        """D[i, j] = a[j+1] ... a[i] for j <= i, 0 above: (..., steps, steps), of the leading entries at `index`."""
        rows, columns, within = self._rows[index], self._columns[index], self._within[index]
        full = torch.matmul(rows, columns, out=out)
        blocks = full.unflatten(-1, within.shape[-3::2]).unflatten(-3, within.shape[-3:-1])
        blocks.diagonal(dim1=-4, dim2=-2).copy_(within.movedim(-3, -1))
        return full[..., : self.steps, : self.steps]


def _products(a: Tensor) -> Tensor:
    """[i, j] = a[j+1] ... a[i] for j <= i, 0 above."""
    found = torch.diag_embed(torch.ones_like(a))
    for i in range(1, a.shape[-1]):
        torch.mul(found[..., i - 1, :i], a[..., i : i + 1], out=found[..., i, :i])
    return found
