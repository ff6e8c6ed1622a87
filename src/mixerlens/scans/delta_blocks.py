"""The delta rule's scan over some sequences and heads, many chunks at once; only the state goes chunk by chunk.

With D the products of decays inside a chunk, l and r those from its start and to its end, T = (I + beta (K K^T . D)
below the diagonal)^-1, the chunk's corrected values and what it makes of its first state S are

    V' = T beta (V - l K S),    y = (Q K^T . D) V' + l Q S,    S <- l_last S + (r K)^T V'.

Everything the state passes through is float64: where nothing is forgotten (beta near 2), float32 is off by 1e-5 after
16384 tokens, while float64 inside leaves the rounding of what is written and read. Axes are
(chunks * sequences * heads, chunk, dim).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mixerlens.scans.cuts import blocks, cuts
from mixerlens.scans.decays import Decays
from mixerlens.scans.room import Room

CHUNK = 32
MATRICES = 64  # chunks times sequences times heads that are worked on at once
GROUP = 8  # blocks whose decays are formed at once


class Part:
    def __init__(self, sequences: slice, groups: slice, heads: slice, query, key, value, log_decay, beta) -> None:
        self.sequences, self.groups, self.heads = sequences, groups, heads
        self.query, self.key = (tensor[sequences, :, groups] for tensor in (query, key))
        self.value, self.beta = self.heads_of(value), self.heads_of(beta)
        self.log_decay = None if log_decay is None else self.heads_of(log_decay)
        self.per_group = self.value.shape[2] // self.query.shape[2]
        self.shared = self.per_group * query.shape[2] != value.shape[2]  # a group's heads are in several parts
        self.room = Room(self.value)
        batch, time, count = self.beta.shape
        self._chunks = max(1, MATRICES // (batch * count))  # of one block
        self._groups = blocks(time, CHUNK, GROUP * self._chunks)
        self.count = sum(-(-len(group) // self._chunks) for group in self._groups)
        state, dim = self.key.shape[-1], self.value.shape[-1]
        rows = batch * count * CHUNK
        self._sizes = {"corrected": rows * dim, "inverse": rows * CHUNK}  # numbers a chunk
        self._sizes["states"] = batch * count * state * dim
        self.needed = -(-time // CHUNK) * sum(self._sizes.values()) + self._sizes["states"]
        self._memory, self.filled = None, False

    def heads_of(self, tensor: Tensor) -> Tensor:
        """This part of a (batch, time, heads, ...) tensor, a view."""
        return tensor[self.sequences, :, self.heads]

    def state(self, tensor: Tensor) -> Tensor:
        """This part of a (..., batch, heads, state, dim) tensor, a view."""
        return tensor[..., self.sequences, self.heads, :, :]

    def keep(self, memory: Tensor, filled: bool) -> None:
        """What a block computes stays in `memory` (needed,), or, if that is `filled` already, is taken from there."""
        chunks = -(-self.beta.shape[1] // CHUNK)
        sizes = [chunks * size for size in self._sizes.values()]
        sizes[-1] += self._sizes["states"]
        self._memory, self.filled = dict(zip(self._sizes, memory.split(sizes), strict=True)), filled

    def place(self, name: str, span: slice, *shape: int) -> Tensor:
        """Where a block of these steps has its own: in the memory, or in a buffer that the next block overwrites."""
        if self._memory is None:
            return self.room(name, *shape)
        first = span.start // CHUNK * self._sizes[name]
        return self._memory[name][first : first + math.prod(shape)].view(shape)

    def blocks(self, back: bool = False) -> Iterator[Block]:
        """All blocks in the order of time, or back. A block lives until the next is asked for."""
        step = -1 if back else 1
        for group in self._groups[::step]:
            decays = None
            if self.log_decay is not None:
                g = self.log_decay[:, group[0].start : group[-1].stop].unflatten(1, (len(group), -1))
                decays = Decays(g.permute(1, 0, 3, 2).double().exp(), torch.float64, self.room)
            for first in range(0, len(group), self._chunks)[::step]:
                yield Block(self, group[first : first + self._chunks], decays, first)


def parts(query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor | None, beta: Tensor) -> list[Part]:
    """The arguments cut in parts of about MATRICES sequences times heads."""
    cut = cuts(value.shape[0], value.shape[2], query.shape[2], MATRICES)
    return [Part(*piece, query, key, value, log_decay, beta) for piece in cut]


class Block:
    """Some chunks of a part: what they need of each other, and after `scan` their states and corrected values."""

    def __init__(self, part: Part, spans: list[slice], decays: Decays | None, first: int) -> None:
        self.part, self.span, room = part, slice(spans[0].start, spans[-1].stop), part.room
        self.chunks, self.steps = len(spans), spans[0].stop - spans[0].start
        self.query, self.key = (self.tiles(name, getattr(part, name), part.per_group) for name in ("query", "key"))
        self.value, self.beta = self.tiles("value", part.value), self.tiles("beta", part.beta.unsqueeze(-1))
        count, steps, _ = self.value.shape
        square, self.gated, dtype = (count, steps, steps), decays is not None, self.value.dtype
        if decays is None:
            self.mask, self.read, self.factors = self.key.new_ones(steps, steps).tril(), self.query, None
        else:
            index = slice(first, first + self.chunks)
            factors = (decays.since[index].flatten(0, 2).unsqueeze(-1), decays.until[index].flatten(0, 2).unsqueeze(-1))
            self.factors = *factors, decays.total[index].flatten(1)[..., None, None], decays.matrix(index).flatten(0, 2)
            self.since, self.until, self.total = (factor.to(dtype) for factor in self.factors[:3])
            self.mask = room("mask", *square).copy_(self.factors[3])
            self.read = torch.mul(self.query, self.since, out=room("read", *self.key.shape))
        self.scores = torch.bmm(self.query, self.key.mT, out=room("scores", *square))
        self.mixing = torch.mul(self.scores, self.mask, out=room("mixing", *square))
        self.inverse, self.corrected = (
            part.place(name, self.span, *shape)
            for name, shape in (("inverse", square), ("corrected", self.value.shape))
        )

    def _wide(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor in float64, to be overwritten."""
        return self.part.room(f"wide {name}", *tensor.shape, dtype=torch.float64).copy_(tensor)

    def _inverse(self, key: Tensor, beta: Tensor) -> Tensor:
        """(I + beta (K K^T . D) below the diagonal)^-1, in float64."""
        shape = self.inverse.shape
        overlaps = torch.bmm(key, key.mT, out=self.part.room("wide overlaps", *shape, dtype=torch.float64))
        if self.factors is not None:
            overlaps.mul_(self.factors[3])
        # both in columns, as the solver wants them: else it makes copies
        system, found = (self.part.room(name, *shape, dtype=torch.float64).mT for name in ("system", "found"))
        torch.mul(overlaps, beta, out=system)
        found.copy_(torch.eye(self.steps, dtype=torch.float64, device=found.device))
        return torch.linalg.solve_triangular(system, found, upper=False, unitriangular=True, out=found)

    def tiles(self, name: str, tensor: Tensor, per_group: int = 1) -> Tensor:
        """(batch, time, heads, dim) -> (chunks * batch * heads, chunk, dim), a copy with heads repeated."""
        part = tensor[:, self.span].unflatten(1, (self.chunks, self.steps)).permute(1, 0, 3, 2, 4).unsqueeze(3)
        full = part.expand(-1, -1, -1, per_group, -1, -1)
        return self.part.room(name, *full.shape).copy_(full).flatten(0, 3)

    def untiled(self, tensor: Tensor) -> Tensor:
        """(chunks * batch * heads, chunk, dim) -> (batch, chunks, chunk, heads, dim), a view."""
        return tensor.unflatten(0, (self.chunks, len(self.part.value), -1)).permute(1, 0, 3, 2, 4)

    def each(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """(chunks * batch * heads, ...) chunk by chunk."""
        return tensor.unflatten(0, (self.chunks, -1)).unbind(0)

    def scan(self, state: Tensor) -> None:
        """Carries the state (batch, heads, state, dim), float64, over the block in place."""
        flat = state.view(-1, *state.shape[2:])
        states = self.part.place("states", self.span, self.chunks + 1, *flat.shape)
        self.states = states[:-1].flatten(0, 1)
        if self.part.filled:
            return
        key, beta = self._wide("key", self.key), self.beta.double()
        inverse = self._inverse(key, beta)
        self.inverse.copy_(inverse)
        kept = forgotten = key
        if self.factors is not None:
            beta = beta * self.factors[0]
            kept = torch.mul(key, self.factors[1], out=self.part.room("wide kept", *key.shape, dtype=torch.float64))
        forgotten = torch.mul(key, beta, out=self.part.room("wide forgotten", *key.shape, dtype=torch.float64))
        asked = self._wide("asked", torch.mul(self.value, self.beta, out=self.corrected))
        corrected = self.part.room("wide corrected", *asked.shape, dtype=torch.float64)
        wide = self.part.room("wide states", *states.shape, dtype=torch.float64)
        wide[0] = flat
        pieces = zip(*(self.each(x) for x in (forgotten, inverse, asked, kept, corrected)), strict=True)
        for number, (k, solve, r, last, v) in enumerate(pieces):
            old, new = wide[number], wide[number + 1]
            torch.bmm(solve, r.baddbmm_(k, old, alpha=-1), out=v)
            if self.factors is None:
                torch.baddbmm(old, last.mT, v, out=new)
            else:
                torch.mul(old, self.factors[2][number], out=new).baddbmm_(last.mT, v)
        states.copy_(wide)
        self.corrected.copy_(corrected)
        flat.copy_(wide[-1])

    def outputs(self, into: Tensor) -> None:
        """Writes y into a (batch, time, heads, dim) tensor."""
        y = torch.bmm(self.mixing, self.corrected, out=self.part.room("y", *self.value.shape))
        y.baddbmm_(self.read, self.states)
        into[:, self.span].unflatten(1, (self.chunks, -1)).copy_(self.untiled(y))
