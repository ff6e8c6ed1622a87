"""A_t merges levels of the state as a Fenwick tree does: log-linear attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution.anchored import decay_matrix
from mixerlens.evolution.base import Carry, Factors, whole
from mixerlens.evolution.base import Diagonal as DiagonalCarry
from mixerlens.evolution.scalar import Decayed
from mixerlens.shapes import fold, spread, tile


def _merged(blocks: Tensor, lowest: Tensor) -> Tensor:
    """Levels below the lowest flow into it: blocks (..., levels, n), lowest (...)."""
    level = torch.arange(blocks.shape[-2], device=blocks.device)[:, None]
    lowest = lowest[..., None, None]
    return torch.where(level > lowest, blocks, torch.where(level == lowest, blocks.cumsum(-2), 0))


def _spread(blocks: Tensor, lowest: Tensor) -> Tensor:
    """The transpose: rows (..., levels, n) read at every level below the lowest what they read there."""
    level = torch.arange(blocks.shape[-2], device=blocks.device)
    return blocks.take_along_dim(torch.maximum(level, lowest[..., None])[..., None], -2)


@dataclass(frozen=True, eq=False)
class _FenwickCarry(Carry):
    lowest: Tensor  # (batch | 1,)
    levels: int
    decay: Carry

    def forward(self, state: Tensor) -> Tensor:
        blocks = state.unflatten(-2, (self.levels, -1)).flatten(-2)
        merged = _merged(blocks, self.lowest[:, None])
        return self.decay.forward(merged.unflatten(-1, (-1, state.shape[-1])).flatten(-3, -2))

    def backward(self, rows: Tensor) -> Tensor:
        blocks = self.decay.backward(rows).unflatten(-1, (self.levels, -1))
        return _spread(blocks, self.lowest[:, None, None]).flatten(-2)


@dataclass(frozen=True, eq=False)
class Fenwick(Decayed):
    """A_t = a_t (F_t (x) I_n) on ``levels`` blocks of n numbers, block by block (index level * n + d).

    At the token of number t in its sequence, with z the trailing zeros of t, levels 0 .. z flow into level z + 1 and
    are emptied, higher levels stay (at number 0 all flow into the last: whatever was there is no part of the sequence).
    So what entered at level 0 of token j stands at token i > j in level 1 + (the highest bit in which i and j differ):
    log-linear attention (arXiv 2506.04761).

    levels: T tokens need 1 + bit_length(T - 1) of them; longer sequences are refused.
    log_decay or decay (batch, time, heads): a_t, 1 when both are left out.
    position: integers (batch, time, 1), the number of each token in its own sequence where it is not 0, 1, 2, ...:
        packed sequences, and a sequence that is continued from a state.
    Eigenvalues: a_t and 0, with multiplicities that are not given; a_t alone for one level.
    """

    levels: int
    log_decay: Tensor | None = None
    decay: Tensor | None = None
    position: Tensor | None = None
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", whole("levels", self.levels))
        self.settle()
        if self.position is None:
            return
        kind = self.position.dtype
        if kind.is_floating_point or kind.is_complex or kind == torch.bool or self.position.shape[2] != 1:
            raise InputError("position must hold integers, (batch, time, 1)")
        if bool((self.position < 0).any()):
            raise InputError(f"position {int(self.position.min())} does not exist: tokens are numbered from 0")
        self._check_last(int(self.position.max()))
        before, after = self.position[:, :-1], self.position[:, 1:]
        jump = ((after != before + 1) & (after != 0)).nonzero()
        if len(jump):
            batch, t, _ = jump[0].tolist()
            raise InputError(
                f"position {int(after[batch, t])} of token {t + 1} follows {int(before[batch, t])} in row {batch}: "
                "tokens count up by one, or from 0 again where a sequence begins"
            )

    def _check_last(self, last: int) -> None:
        needed = 1 + last.bit_length()
        if needed > self.levels:
            raise InputError(f"{last + 1} tokens need {needed} levels, there are {self.levels}: give more levels")

    def check_length(self, time: int) -> None:
        if self.position is None:
            self._check_last(time - 1)
        elif self.position.shape[1] != time:
            raise InputError(f"position numbers {self.position.shape[1]} tokens of {time}: give one number a token")

    def _lowest(self, lo: int, hi: int, device: torch.device) -> Tensor:
        """The lowest level that holds anything after each token's merge: (batch | 1, hi - lo) int64."""
        if self.position is None:
            self._check_last(hi - 1)
            t = torch.arange(lo, hi, device=device)[None]
        else:
            t = tile(self.position, lo, hi)[:, 0]
        bit = (t & -t).clamp(min=1).to(torch.float64)  # 2^z, exactly
        return torch.where(t > 0, torch.log2(bit).round().to(torch.int64) + 1, self.levels - 1)

    def step(self, state: Tensor, t: int) -> Tensor:
        level = torch.arange(self.levels, device=state.device)
        target = torch.maximum(level, self._lowest(t, t + 1, state.device))  # where each level goes
        moves = (target[:, None, :] == level[:, None]).to(state.dtype)[:, None]
        blocks = state.unflatten(-2, (self.levels, -1))
        moved = (moves @ blocks.flatten(-2)).unflatten(-1, blocks.shape[-2:]).flatten(-3, -2)
        return moved if self.scalar is None else self.scalar.step(moved, t)

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        # a merge takes level l to max(l, lowest), and so does any run of merges with the largest of their lowest
        one = torch.ones(1, 1, hi - lo, dtype=torch.float64, device=query.device)
        a = one if self.scalar is None else self.scalar.factor(lo, hi)
        heads = max(query.shape[1], key.shape[1], a.shape[1])
        query, key = (spread(x, heads).unflatten(-1, (self.levels, -1)) for x in (query, key))
        lowest = self._lowest(lo, hi, query.device)
        between = lowest[:, :, None].expand(-1, -1, hi - lo).tril(-1).cummax(-2)[0]  # tokens j < t <= i
        decays, forward, backward = decay_matrix(a, query.dtype)
        return Factors(
            intra=self._scores(query, key, between) * decays,
            emit=_spread(query, lowest.cummax(-1)[0][:, None]).flatten(-2) * forward[..., None].to(query.dtype),
            inject=_merged(key, between[:, None, -1]).flatten(-2) * backward[..., None].to(query.dtype),
            carry=_FenwickCarry(lowest.amax(-1), self.levels, DiagonalCarry(forward[..., -1:])),
        )

    def _scores(self, query: Tensor, key: Tensor, between: Tensor) -> Tensor:
        """sum_l q_i[max(l, lowest)] . k_j[l]: below the lowest level by a sum of keys, above it level by level."""
        own, summed = (query.transpose(2, 3) @ x.permute(0, 1, 3, 4, 2) for x in (key, key.cumsum(-2)))
        later = own.flip(2).cumsum(2).flip(2) - own
        return (summed + later).take_along_dim(between[:, None, None], 2)[:, :, 0].tril()

    @property
    def time_invariant(self) -> bool:
        return False

    def take_tokens(self, lo: int, hi: int) -> Self:
        """The tokens keep their numbers."""
        if self.position is not None or lo == 0:
            return super().take_tokens(lo, hi)
        device = next(iter(self.tensors().values())).device if self.tensors() else None
        position = torch.arange(lo, hi, device=device)[None, :, None]
        return replace(super().take_tokens(lo, hi), position=position)

    def fold(self, batch: int, lo: int, size: int, count: int) -> Self:
        """The tokens keep their numbers."""
        if self.position is not None:
            return super().fold(batch, lo, size, count)
        device = next(iter(self.tensors().values())).device if self.tensors() else None
        position = torch.arange(lo, lo + size * count, device=device)[None, :, None]
        return replace(super().fold(batch, lo, size, count), position=fold(position, batch, 0, size, count))

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        one = torch.ones(1, 1, 1, 1, dtype=torch.complex128)
        a = one if self.scalar is None else self.scalar.eigenvalues(lo, hi)
        return a if self.levels == 1 else torch.cat([a, torch.zeros_like(a)], -1)

    def check(self, dim: int) -> None:
        if dim % self.levels:
            raise InputError(f"{self.levels} levels do not divide the {dim} dimensions of query and key")
