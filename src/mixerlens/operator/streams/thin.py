"""Sums of |alpha| over tiles of rank one or two, without their entries.

    alpha_ij = z_i1 x_j1 + z_i2 x_j2 = x_j2 (z_i1 t_j + z_i2),  t_j = x_j1 / x_j2,  x_j2 >= 0 (else x_j is turned round)

Along the columns sorted by t_j the sign changes once, at t = -z_i2 / z_i1. With S the sum of the x_j after that place
less the sum of those before it, sum_j |alpha_ij| = |z_i . S|; the same with rows and columns exchanged. What takes
rows x columns operations otherwise is a sort and a search, in float64; of rank one |alpha| = |z_i| |x_j| is a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.operator.streams.tile import Tile


class Fan(NamedTuple):
    """Vectors in the plane by direction. turns: t, sorted (..., n). sums: of the first 0 .. n vectors in that order,
    and of their multiples by the weights if there are any, (..., n + 1, 2 | 4). On a line: no turns, and the sum of
    absolute values alone, (..., 1, 1 | 2)."""

    turns: Tensor | None
    sums: Tensor

    @classmethod
    def of(cls, x: Tensor, weights: Tensor | None = None) -> Fan:
        """x (..., n, 1 | 2) float64, weights (n,)."""
        if x.shape[-1] == 1:
            size = x.abs()
            sums = [size.sum(-2)] if weights is None else [size.sum(-2), weights @ size]
            return cls(None, torch.stack(sums, -1))
        x = torch.where(x[..., 1:] < 0, -x, x)
        turns, order = (x[..., 0] / x[..., 1].abs()).nan_to_num_(0.0, torch.inf, -torch.inf).sort(-1)
        both = x if weights is None else torch.cat([x, x * weights.unsqueeze(-1)], -1)
        both = both.gather(-2, order.unsqueeze(-1).expand(both.shape))
        return cls(turns, pad(both.cumsum(-2), (0, 0, 1, 0)))

    def met(self, z: Tensor) -> list[Tensor]:
        """sum_j |z . x_j| for each z (..., m, 1 | 2), then the same with the weights if there are any: (..., m)."""
        if self.turns is None:
            return list((z.abs() * self.sums).unbind(-1))
        place = torch.searchsorted(self.turns, (-z[..., 1] / z[..., 0]).nan_to_num_(0.0, torch.inf, -torch.inf))
        before = self.sums.gather(-2, place.unsqueeze(-1).expand(*place.shape, self.sums.shape[-1]))
        apart = self.sums[..., -1:, :] - 2 * before
        return [(s * z).sum(-1).abs_() for s in apart.split(2, -1)]


@dataclass(eq=False)
class ThinTile(Tile):
    """A tile of low rank before the diagonal. left (batch, heads, rows, 1 | 2), float64; right: the columns' (batch,
    heads, columns, 1 | 2), of rank one perhaps only in size, and the same as a fan weighted by the tokens up to the
    last of them. No entry is formed: size is empty.
    """

    left: Tensor
    right: Tensor
    fan: Fan

    @cached_property
    def row_mass(self) -> Tensor:
        return self.row_sums[0]

    @cached_property
    def row_sums(self) -> tuple[Tensor, Tensor]:
        mass, moment = self.fan.met(self.left)
        moment = moment + mass * self._away(0, self.columns.count)
        return mass.unsqueeze(2), moment.unsqueeze(2)

    @cached_property
    def column_mass(self) -> Tensor:
        (mass,) = Fan.of(self.left).met(self.right)
        return mass.unsqueeze(2)


def weights(columns: int, like: Tensor) -> Tensor:
    """Tokens from each of so many columns to the last one."""
    return torch.arange(columns - 1, -1, -1, dtype=torch.float64, device=like.device)
