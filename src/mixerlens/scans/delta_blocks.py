"""The delta rule's scan over some sequences and heads, many chunks at once; only the state goes chunk by chunk.

With D the products of decays inside a chunk, l and r those from its start and to its end, T = (I + beta (K K^T . D)
below the diagonal)^-1, the chunk's corrected values and what it makes of its first state S are

    V' = T beta V - (T beta l K) S,    y = (Q K^T . D) V' + l Q S,    S <- l_last S + (r K)^T V'.

Axes are (chunks, sequences times heads, chunk, dim).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mixerlens.scans.cuts import blocks, cuts
from mixerlens.scans.decays import Decays

CHUNK = 64
MATRICES = 32  # chunks times sequences times heads that are worked on at once


class Part:
    def __init__(self, sequences: slice, groups: slice, heads: slice, query, key, value, log_decay, beta) -> None:
        self.sequences, self.groups, self.heads = sequences, groups, heads
        self.query, self.key = (tensor[sequences, :, groups] for tensor in (query, key))
        self.value, self.beta = self.heads_of(value), self.heads_of(beta)
        self.log_decay = None if log_decay is None else self.heads_of(log_decay)
        self.per_group = self.value.shape[2] // self.query.shape[2]

    def heads_of(self, tensor: Tensor) -> Tensor:
        """This part of a (batch, time, heads, ...) tensor, a view."""
        return tensor[self.sequences, :, self.heads]

    def state(self, tensor: Tensor) -> Tensor:
        """This part of a (batch, heads, state, dim) tensor, a view."""
        return tensor[self.sequences, self.heads]

    def blocks(self) -> list[list[slice]]:
        batch, time, heads = self.beta.shape
        return blocks(time, CHUNK, max(1, MATRICES // (batch * heads)))


def parts(query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor | None, beta: Tensor) -> Iterator[Part]:
    """The arguments cut in parts of about MATRICES sequences times heads."""
    for cut in cuts(value.shape[0], value.shape[2], query.shape[2], MATRICES):
        yield Part(*cut, query, key, value, log_decay, beta)


class Block:
    """Some chunks of a part: what they need of each other, and after `scan` their states and corrected values."""

    def __init__(self, part: Part, spans: list[slice]) -> None:
        self.part, self.span = part, slice(spans[0].start, spans[-1].stop)
        self.chunks, self.steps = len(spans), spans[0].stop - spans[0].start
        self.query, self.key = (self.tiles(tensor, part.per_group) for tensor in (part.query, part.key))
        self.value, self.beta = self.tiles(part.value), self.tiles(part.beta.unsqueeze(-1))
        dtype = self.value.dtype
        self.decays = None
        if part.log_decay is not None:
            a = self.tiles(part.log_decay.unsqueeze(-1)).squeeze(-1).double().exp()
            self.decays = Decays(a, dtype)
            self.since, self.until = (x.unsqueeze(-1) for x in (self.decays.since, self.decays.until))
            self.total = self.decays.total[..., None, None]
        self.scores = torch.matmul(self.query, self.key.mT)
        self.mask = self.key.new_ones(self.steps, self.steps).tril() if self.decays is None else self.decays.matrix()
        self.mixing = self.scores * self.mask
        self.mask.diagonal(dim1=-2, dim2=-1).zero_()  # from here on strictly below the diagonal
        self.overlaps = torch.matmul(self.key, self.key.mT).mul_(self.mask)
        system = (self.overlaps * self.beta).double()
        eye = torch.eye(self.steps, dtype=torch.float64, device=system.device).expand_as(system)
        self.inverse = torch.linalg.solve_triangular(system, eye, upper=False, unitriangular=True).to(dtype)
        dim = self.value.shape[-1]
        asked = torch.empty(*self.value.shape[:-1], dim + self.key.shape[-1], dtype=dtype, device=system.device)
        torch.mul(self.value, self.beta, out=asked[..., :dim])
        torch.mul(self.key, self.beta if self.decays is None else self.beta * self.since, out=asked[..., dim:])
        self.solved = torch.matmul(self.inverse, asked)
        self.written, self.erased = self.solved[..., :dim], self.solved[..., dim:]
        self.kept = self.key if self.decays is None else self.key * self.until
        self.read = self.query if self.decays is None else self.query * self.since

    def tiles(self, tensor: Tensor, per_group: int = 1) -> Tensor:
        """(batch, time, heads, dim) -> (chunks, batch * heads, chunk, dim) of this block; may be a view."""
        part = tensor[:, self.span].unflatten(1, (self.chunks, self.steps)).permute(1, 0, 3, 2, 4)
        part = part.unsqueeze(3).expand(-1, -1, -1, per_group, -1, -1)
        return part.reshape(self.chunks, -1, self.steps, tensor.shape[-1]).contiguous()

    def untiled(self, tensor: Tensor) -> Tensor:
        """(chunks, batch * heads, chunk, ...) -> (batch, chunks, chunk, heads, ...), a view."""
        return tensor.unflatten(1, (len(self.part.value), -1)).movedim((1, 0, 3), (0, 1, 2))

    def scan(self, state: Tensor) -> Tensor:
        """Fills `states`, those the chunks start from, and `corrected`; the state after the block is returned."""
        shape, state = state.shape, state.flatten(0, 1)
        self.states = state.new_empty(self.chunks + 1, *state.shape)
        self.states[0] = state
        self.corrected = torch.empty_like(self.value)
        for number in range(self.chunks):
            old, new = self.states[number], self.states[number + 1]
            corrected = self.corrected[number]
            torch.baddbmm(self.written[number], self.erased[number], old, alpha=-1, out=corrected)
            if self.decays is not None:
                old = torch.mul(old, self.total[number], out=new)
            torch.baddbmm(old, self.kept[number].mT, corrected, out=new)
        return self.states[-1].clone().view(shape)

    def outputs(self, into: Tensor) -> None:
        """Writes y into a (batch, time, heads, dim) tensor."""
        y = torch.matmul(self.mixing, self.corrected)
        y.flatten(0, 1).baddbmm_(self.read.flatten(0, 1), self.states[:-1].flatten(0, 1))
        into[:, self.span].unflatten(1, (self.chunks, -1)).copy_(self.untiled(y))
