"""Mamba-2's scan over some sequences and heads: one chunk forward, and one chunk back.

Axes inside are (batch, groups, heads a group, chunk, dim) where heads multiply by themselves, and
(batch, groups, chunk, heads a group, dim) where all heads of a group multiply at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.scans.cuts import blocks, cuts
from mixerlens.scans.decays import Decays
from mixerlens.scans.room import Room
from mixerlens.scans.ssd_state import State

CHUNK = 64
BLOCK = 16  # chunks whose decays are formed at once, and between which the state is kept for the backward pass
MATRICES = 32  # sequences times heads of a part: its masks, one chunk by chunk matrix each, then stay near the cache


class Part:
    def __init__(self, block: int, sequences: slice, groups: slice, heads: slice, x, dt, A, B, C) -> None:
        self._block = block
        self.sequences, self.groups, self.heads = sequences, groups, heads
        self.count = groups.stop - groups.start
        self.x, self.dt = self.of(x), self.of(dt)
        self.B, self.C = (tensor[sequences, :, groups] for tensor in (B, C))
        self.A = A[heads].unflatten(0, (self.count, -1))
        batch, _, _, per_group, self.dim = self.x.shape
        self.shape = batch, self.count, per_group
        self.room = Room(x)

    def of(self, tensor: Tensor) -> Tensor:
        """(batch, time, heads, ...) -> (batch, time, groups, heads a group, ...), a view."""
        return tensor[self.sequences, :, self.heads].unflatten(2, (self.count, -1))

    def start(self, state: Tensor, name: str = "state") -> State:
        """Of a (batch, heads, state, dim) tensor, a copy."""
        mine = state[self.sequences, self.heads].unflatten(1, (self.count, -1)).transpose(2, 3).flatten(3)
        wide = mine.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
        return State(wide, self.shape[2], self.room, name)

    def finish(self, state: State, into: Tensor) -> None:
        """The way back from `start`, written into a (batch, heads, state, dim) tensor."""
        mine = into[self.sequences, self.heads].unflatten(1, (self.count, -1))
        mine.transpose(2, 3).copy_(state.by_head(state.wide))

    def blocks(self) -> list[list[slice]]:
        return blocks(self.x.shape[1], CHUNK, self._block)

    def decays(self, block: list[slice], weighted: bool) -> Decays:
        """Of every chunk of the block, with axes (chunks, batch, groups, heads a group, steps); weighted with dt."""
        dt = self._chunks(self.dt, block).permute(0, 1, 3, 4, 2).double()
        return Decays((dt * self.A.double().unsqueeze(-1)).exp(), self.x.dtype, self.room, dt if weighted else None)

    def forward(self, block: list[slice], state: State, out: Tensor) -> None:
        """Writes the block's outputs, (batch, time, groups, heads a group, dim), and carries the state over it.

        All that is touched by one chunk is touched again soon, before it leaves the cache.
        """
        decays = self.decays(block, weighted=True)
        steps, x, out = decays.steps, self._chunks(self.x, block), self._chunks(out, block)
        B, C = (self._chunks(tensor, block).transpose(2, 3).flatten(1, 2) for tensor in (self.B, self.C))
        scores = torch.matmul(C, B.mT).unflatten(1, self.shape[:2]).unsqueeze(3)
        masks = decays.matrices(self._by_head("mask", decays.padded, decays.padded))
        since, until = decays.since.permute(0, 1, 4, 2, 3).unsqueeze(-1), decays.until.mT.unsqueeze(-1)
        own, recalled, kept = (
            make(name, steps)
            for make, name in ((self._by_head, "own"), (self._by_group, "recalled"), (self._by_group, "kept"))
        )
        own_flat, recalled_flat, kept_flat = own.flatten(0, 2), recalled.flatten(0, 1), kept.flatten(0, 1)
        own, recalled, kept = own.movedim(3, 1), self._heads(recalled).transpose(1, 2), self._heads(kept)
        state.open(decays.total)
        chunks = (
            tensor.unbind(0) for tensor in (scores, x.movedim(2, 4), x.transpose(2, 3), B.mT, C, since, until, out)
        )
        for mask, score, values, rows, key, query, begin, end, into in zip(masks, *chunks, strict=True):
            torch.bmm(mask.mul_(score).flatten(0, 2), values.flatten(0, 2), out=own_flat)
            torch.bmm(query, state.now().flatten(0, 1), out=recalled_flat)
            torch.addcmul(own, recalled, begin, out=into)
            torch.mul(rows, end, out=kept)
            state.step(key, kept_flat)
        state.close()

    def write(self, span: slice, number: int, decays: Decays, state: State) -> None:
        """Carries the state over the chunk, by decays without weights."""
        key = self._keys(span)[0].flatten(0, 1)
        state.step(key.mT, self._kept(span, number, decays).flatten(0, 1))

    def _chunks(self, tensor: Tensor, block: list[slice]) -> Tensor:
        """(batch, time, ...) -> (chunks, batch, chunk, ...), a view."""
        return tensor[:, block[0].start : block[-1].stop].unflatten(1, (len(block), -1)).transpose(0, 1)

    def _by_head(self, name: str, rows: int, columns: int = 0) -> Tensor:
        return self.room(name, *self.shape, rows, columns or self.dim)

    def _by_group(self, name: str, rows: int) -> Tensor:
        return self.room(name, *self.shape[:2], rows, self.shape[2] * self.dim)

    def _heads(self, tensor: Tensor) -> Tensor:
        """(..., heads a group * dim) -> (..., heads a group, dim)."""
        return tensor.unflatten(-1, (self.shape[2], self.dim))

    def _keys(self, span: slice) -> tuple[Tensor, Tensor]:
        """B and C, (batch, groups, chunk, state)."""
        return self.B[:, span].transpose(1, 2), self.C[:, span].transpose(1, 2)

    def _mask(self, number: int, decays: Decays) -> Tensor:
        return decays.matrix(number, out=self._by_head("mask", decays.padded, decays.padded))

    def _written(self, span: slice) -> Tensor:
        """dt x, (batch, groups, heads a group, chunk, dim)."""
        x, step = (tensor[:, span].movedim(1, 3) for tensor in (self.x, self.dt.unsqueeze(-1)))
        return torch.mul(x, step, out=self._by_head("written", span.stop - span.start))

    def _kept(self, span: slice, number: int, decays: Decays) -> Tensor:
        """dt x as the chunk's end remembers it, (batch, groups, chunk, heads a group * dim)."""
        step = self.dt[:, span].transpose(1, 2) * decays.until[number].movedim(-1, 2)
        out = self._by_group("kept", span.stop - span.start)
        torch.mul(self.x[:, span].transpose(1, 2), step.unsqueeze(-1), out=self._heads(out))
        return out

    def gradients(self, span, number: int, decays: Decays, state: Tensor, later: State, grad_y, into) -> None:
        """Adds the chunk's gradients to `into` (x, dt, A, B, C), by decays without weights; takes `later` back.

        `state` is the one before the chunk, `later` the gradient of the one after it.
        """
        steps, (B, C) = span.stop - span.start, self._keys(span)
        gy = self._by_head("gy", steps).copy_(self.of(grad_y)[:, span].movedim(1, 3))
        written, kept = self._written(span), self._kept(span, number, decays)
        since, until = (x.movedim(-1, 2).unsqueeze(-1) for x in (decays.since[number], decays.until[number]))
        read = self._by_group("read", steps)
        torch.mul(gy.transpose(2, 3), since, out=self._heads(read))
        # through the state the chunk starts from, and the one it leaves
        adjoint = later.now()
        grad_B = torch.matmul(kept, adjoint.mT)
        grad_kept = torch.matmul(B, adjoint, out=self._by_group("grad_kept", steps))
        products = torch.mul(state, adjoint, out=self._by_group("products", state.shape[2]))
        across = self._heads(products.sum(2, dtype=torch.float64)).sum(-1) * decays.total[number]
        grad_C = torch.matmul(read, state.mT)
        recalled = torch.matmul(C, state, out=self._by_group("recalled", steps))
        # (batch, groups, chunk, heads a group); in float64, for these sums cancel
        from_start = self._heads(recalled.mul_(read)).sum(-1, dtype=torch.float64)
        to_end = self._heads(torch.mul(grad_kept, kept, out=recalled)).sum(-1, dtype=torch.float64)
        later.step(C.flatten(0, 1).mT, read.flatten(0, 1))
        # within the chunk
        scores = torch.matmul(C, B.mT).unsqueeze(2)
        mask = self._mask(number, decays)
        pairs = torch.matmul(gy, written.mT, out=self._by_head("pairs", steps, steps)).mul_(mask)
        grad_scores = pairs.sum(2)
        grad_C += torch.matmul(grad_scores, B)
        grad_B += torch.matmul(grad_scores.mT, C)
        grad_written = torch.matmul(mask.mul_(scores).mT, gy, out=self._by_head("grad_written", steps))
        grad_written.addcmul_(self._heads(grad_kept).transpose(2, 3), until.transpose(2, 3))
        # the decay of step t: all pairs j < t <= i, and what crosses the chunk's ends
        pairs.mul_(scores).diagonal(dim1=-2, dim2=-1).zero_()
        crossing = (pairs.sum(-2, dtype=torch.float64) - pairs.sum(-1, dtype=torch.float64)).movedim(-1, 2)
        grad_decay = _before(crossing + to_end) + from_start.flip(2).cumsum(2).flip(2) + across.unsqueeze(2)
        grad_decay, x, step = grad_decay.transpose(1, 2), self.x[:, span], self.dt[:, span]
        by_row = torch.mul(grad_written, x.movedim(1, 3), out=gy).sum(-1).movedim(-1, 1)
        torch.mul(grad_written.movedim(3, 1), step.unsqueeze(-1), out=self.of(into[0])[:, span])
        self.of(into[1])[:, span] = by_row + grad_decay * self.A
        into[2][self.heads] += (grad_decay * step).sum((0, 1)).flatten()
        for tensor, gradient in ((into[3], grad_B), (into[4], grad_C)):
            tensor[self.sequences, span, self.groups] += gradient.transpose(1, 2)


def _before(x: Tensor) -> Tensor:
    """Sums of all earlier rows, of (batch, groups, rows, heads)."""
    return x.double().cumsum(2) - x


def parts(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> list[Part]:
    """The arguments cut in parts of about MATRICES sequences times heads.

    Where a state could grow, blocks are of one chunk: what it grows by over more could leave the arguments' range.
    """
    block = BLOCK if bool((A <= 0).all()) and bool((dt >= 0).all()) else 1
    return [Part(block, *cut, x, dt, A, B, C) for cut in cuts(x.shape[0], x.shape[2], B.shape[2], MATRICES)]
