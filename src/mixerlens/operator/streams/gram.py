"""Scalar evolutions: one product serves all heads of a group.

    |alpha_ij| = |q_i . k_j| |l_i| |r_j|,  l_i = a_border ... a_i,  r_j = a_{j+1} ... a_{border - 1} b_j

with the border between the tile's columns and its rows. Only the vectors l and r, float64, belong to a head.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.composition import Mixer
from mixerlens.evolution import Identity, Scalar
from mixerlens.evolution.anchored import decay_matrix
from mixerlens.operator.streams.buffers import Buffers
from mixerlens.operator.streams.generators import Earlier, Source, Square, reaching, row_factors
from mixerlens.operator.streams.maps import Maps
from mixerlens.operator.streams.parts import DiagonalPart
from mixerlens.readout import RealPart
from mixerlens.shapes import spread, tile, wide


class Gram(Source):
    """The products q . k, one a group of heads, and the heads' decays."""

    @staticmethod
    def fits(mixer: Mixer) -> bool:
        """One system with a scalar evolution, whose queries and keys are shared by several heads."""
        (d, _), *more = mixer.terms
        if more:
            return False
        scalar = type(d.evolution) in (Scalar, Identity)
        read = d.readout.linear and not (isinstance(d.readout, RealPart) and d.dtype.is_complex)
        return scalar and read and max(d.query.shape[2], d.key.shape[2]) < d.heads

    def __init__(self, mixer: Mixer, chunk: int, windows: int, buffers: Buffers, *, bounded: bool) -> None:
        (self.dynamics, weight), *_ = mixer.terms
        d = self.dynamics
        self.chunk, self.windows, self.bounded = chunk, windows, bounded
        self.units = max(d.query.shape[2], d.key.shape[2])
        self.rows = row_factors(d, weight)
        self.rounding = 1e-4 if d.dtype in (torch.float32, torch.complex64) else 1e-9
        self.earlier, self.buffers = [], buffers

    def block(self, lo: int) -> Tensor:
        d, size = self.dynamics, self.chunk * self.windows
        hi = min(lo + size, d.time)
        fill = (0, 0, 0, lo + size - hi)

        def windows(x: Tensor) -> Tensor:
            """(batch | 1, heads | groups | 1, tokens, n) -> (batch, ..., windows, chunk, n), zero beyond the end."""
            return pad(x, fill).expand(d.batch, -1, -1, -1).unflatten(2, (self.windows, self.chunk))

        query, key = (windows(spread(tile(x, lo, hi).to(d.dtype), self.units)) for x in (d.query, d.key))
        self._query, self._key = (x.expand(-1, self.units, -1, -1, -1) for x in (query, key))
        one = torch.ones(1, 1, hi - lo, dtype=torch.float64, device=d.device)
        a = d.evolution.factor(lo, hi) if isinstance(d.evolution, Scalar) else one
        a = pad(a, fill[2:], value=1.0).expand(d.batch, d.heads, -1).unflatten(2, (self.windows, self.chunk))
        between, forward, backward = decay_matrix(a, d.dtype)
        emit, inject = forward.unsqueeze(-1), backward.unsqueeze(-1)
        if self.rows is not None:
            emit = emit * windows(self.rows[:, :, lo:hi])
        if isinstance(d.readout, RealPart):
            emit = emit * d.readout.scale
        if d.scaling is not None:
            inject = inject * windows(wide(tile(d.scaling[..., None], lo, hi)))
        self._part = DiagonalPart.of(emit, inject, Maps(forward[..., -1:]), self.buffers.of("windows"))
        own = spread(query @ key.mT, d.heads) * between
        if self.rows is not None:
            own = own * windows(self.rows[:, :, lo:hi]).to(own.dtype)
        if isinstance(d.readout, RealPart):
            own = own * d.readout.scale
        if d.scaling is not None:
            own = own * windows(tile(d.scaling[..., None], lo, hi)).mT.to(own.dtype)
        return own.expand(d.batch, d.heads, -1, -1, -1)

    def squares(self) -> Iterator[Square]:
        while self._part.windows > 1:
            pairs = self._part.windows // 2
            query, key = (x.flatten(2, 3).unflatten(2, (pairs, 2, -1)) for x in (self._query, self._key))
            left, right = self._part.right()[..., 0], self._part.left()[..., 0]
            yield Square(query[:, :, :, 1], key[:, :, :, 0], left, right)
            self._part = self._part.merged()
        self._query, self._key = (x.flatten(2, 3).unsqueeze(2) for x in (self._query, self._key))
        self._walking = self._part.whole_emit()

    def keep(self) -> None:
        inject = self._part.whole_inject()
        block = Earlier(self._key.contiguous(), None, [self._part.maps])
        if self.bounded:
            sizes = self._norms(self._key) * inject.abs()
            block = reaching(block, [sizes], self.earlier[-1] if self.earlier else None, self.rounding)
        self._factors = [*getattr(self, "_factors", []), inject[..., 0]]
        self.earlier.append(block)

    def against(self, k: int, rows: slice = slice(None)) -> Square:
        left = self._walking[..., rows, 0]
        return Square(self._query[..., rows, :], self.earlier[k].inject, left, self._factors[k])

    def back(self, k: int) -> None:
        self._walking = self.earlier[k].maps[0].rows(self._walking)

    def sizes(self, rows: slice) -> Tensor:
        return self._norms(self._query[..., rows, :]) * self._walking[..., rows, :].abs()

    def _norms(self, x: Tensor) -> Tensor:
        return spread(torch.linalg.vector_norm(wide(x), dim=-1, keepdim=True), self.dynamics.heads)
