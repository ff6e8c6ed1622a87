"""A_t moves every cell of the state one place down: long convolutions, FIR filters, sliding windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.errors import InputError
from mixerlens.evolution.base import Carry, Evolution, Factors, whole
from mixerlens.shapes import spread, wide

DIRECT = 64  # cells of a key up to which a kernel is summed, not found by FFT


def _moved(state: Tensor, by: int) -> Tensor:
    """(..., dim, m) with every number ``by`` places down; negative: up. What leaves at an end is lost."""
    by = max(-state.shape[-2], min(by, state.shape[-2]))
    kept = state[..., max(0, -by) : state.shape[-2] - max(0, by), :]
    return pad(kept, (0, 0, max(0, by), max(0, -by)))


def _slanted(x: Tensor, block: int) -> Tensor:
    """(..., c, dim) -> (..., c, dim + (c - 1) block): row t moved right by c - 1 - t cells, zeros around it.

    Where an impulse stands after the chunk: two rows meet at the same place when one has moved to where the other is.
    """
    size, width = x.shape[-2], x.shape[-1] + x.shape[-2] * block
    flat = pad(x.flip(-2), (0, size * block)).flatten(-2)
    return flat[..., : size * (width - block)].unflatten(-1, (size, width - block)).flip(-2)


@dataclass(frozen=True, eq=False)
class _ShiftCarry(Carry):
    by: int  # numbers, not cells

    def forward(self, state: Tensor) -> Tensor:
        return _moved(state, self.by)

    def backward(self, rows: Tensor) -> Tensor:
        return _moved(rows.mT, -self.by).mT


@dataclass(frozen=True, eq=False)
class Shift(Evolution):
    """A_t moves every cell of ``block`` numbers one cell down; the last falls out and the first becomes zero.

    With keys e_1 and a query that holds the taps the score is the tap of the lag: a convolution. With blocks of n
    numbers, keys (k, 0, ...) and queries (q, q, ...) it is linear attention over a window of dim / n tokens.
    Eigenvalues: 0 (dim times), given once.
    """

    block: int = 1
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", whole("block, the numbers in a cell,", self.block))

    def step(self, state: Tensor, t: int) -> Tensor:
        return _moved(state, self.block)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        dim, size = query.shape[-1], hi - lo
        heads = max(query.shape[1], key.shape[1])
        query, key = (_slanted(spread(x, heads), self.block) for x in (query, key))
        return Factors(
            intra=(query @ key.mT).tril(),
            emit=pad(query[..., size * self.block :], (0, self.block)),
            inject=key[..., :dim],
            carry=_ShiftCarry(size * self.block),
        )

    def kernel(self, query: Tensor, key: Tensor, length: int) -> Tensor | None:
        """sum_c q_{c+l} k_c over cells c: summed where the key fills few cells (e_1), else by FFT in double precision.

        Lags of dim / block and more have no coefficient.
        """
        query, key = (wide(x).unflatten(-1, (-1, self.block)) for x in (query, key))
        cells = query.shape[-2]
        filled = key.detach().abs().flatten(0, 1).amax((0, 2)).nonzero()
        used = cells if key.requires_grad else int(filled.max()) + 1 if len(filled) else 1
        if used <= DIRECT:
            ahead = pad(query, (0, 0, 0, used - 1)).unfold(-2, used, 1)  # (..., lag, block, cell)
            scores = torch.einsum("...lbc,...cb->...l", ahead, key[..., :used, :])
        else:
            spectrum = torch.fft.fft(query, 2 * cells, dim=-2) * torch.fft.fft(key.flip(-2), 2 * cells, dim=-2)
            scores = torch.fft.ifft(spectrum.sum(-1), dim=-1)[..., cells - 1 : 2 * cells - 1]
            scores = scores if query.is_complex() or key.is_complex() else scores.real
        return pad(scores[..., :length], (0, max(0, length - cells)))

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        return torch.zeros(1, 1, 1, 1, dtype=torch.complex128)

    def check(self, dim: int) -> None:
        if dim % self.block:
            raise InputError(f"cells of {self.block} numbers do not divide the {dim} dimensions of query and key")
