"""The selective scan's backward pass over one part of its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.scans.mamba_tiles import SPAN, Part, Tile
from mixerlens.scans.walk import walk


class Gradients:
    """Walks a part back in time; the gradients of x, dt, B and C go where `into` says, those of A add up in `rates`."""

    def __init__(
        self, part: Part, grad_y: Tensor, grad_state: Tensor, into: dict[str, Tensor], kept: Tensor, every: int
    ):
        self.part, self.grad_y, self.kept, self.every = part, part.of(grad_y), part.kept(kept), every
        self.grad_x, self.grad_dt = (part.of(into[name]) for name in ("x", "dt"))
        self.grad_B, self.grad_C = (into[name][part.sequences].transpose(0, 1) for name in ("B", "C"))
        self.grad_A = into["A"][part.channels]
        self.adjoint = part.state(grad_state).contiguous()  # dL/dh_t as seen from the steps after t
        size, channels = part.rates.shape
        self.rates = part.x.new_zeros(1, size * channels)
        self.ones = part.x.new_ones(part.steps * part.batch, 1, max(size, part.steps * part.batch))
        self.states = Tile(torch.empty_like(part.tiles[0].full))
        self.walk = walk(part.x)
        self.group = every * max(1, SPAN // every)  # steps that are prepared and stored at once

    def run(self) -> None:
        """All gradients but the initial state's, which `adjoint` is then."""
        time, total = len(self.part.x), torch.zeros_like(self.rates, dtype=torch.float64)
        whole = Group(self, min(self.group, time))
        for lo in reversed(range(0, time, self.group)):
            group = whole if lo + whole.length <= time else Group(self, time - lo)
            group.run(slice(lo, lo + group.length))
            total += self.rates
            self.rates.zero_()
        self.grad_A += total.view(self.part.rates.shape).T


class Group:
    """So many steps, their inputs and gradients in buffers; the tiles' views are made once for all such groups."""

    def __init__(self, gradients: Gradients, length: int) -> None:
        self.gradients, self.part, self.length = gradients, gradients.part, length
        part, (size, channels) = self.part, self.part.rates.shape
        wide = part.x.new_empty(3, length, part.batch, 1, channels)
        self.step, self.through_write, self.through_decay = wide.unbind(0)
        self.B, self.C = part.x.new_empty(2, length, part.batch, size, 1).unbind(0)
        # sums over channels, two rows at once: that product takes 0.7 of the time of one with a single row
        self.over_channels = part.x.new_zeros(2, length, part.batch, 2, channels)  # the second row stays zero
        self.sums = part.x.new_empty(2, length, part.batch, 2, size)
        self.written, self.gy = self.over_channels[:, :, :, :1].unbind(0)
        self.grad_B, self.grad_C = self.sums[:, :, :, 0].unbind(0)
        self.tiles = [Steps(self, slice(lo, min(lo + part.steps, length))) for lo in range(0, length, part.steps)]

    def run(self, span: slice) -> None:
        part, gradients, x = self.part, self.gradients, self.part.rows(self.part.x[span])
        torch.mul(self.step.copy_(part.dt[span].unsqueeze(2)), x, out=self.written)
        self.gy.copy_(gradients.grad_y[span].unsqueeze(2))
        self.B.copy_(part.B[span])
        self.C.copy_(part.C[span])
        for tile, start in zip(reversed(self.tiles), reversed(self._starts(span)), strict=True):
            tile.run(start)
        torch.addcmul(self.through_decay, self.through_write, x, out=gradients.grad_dt[span].unsqueeze(2))
        torch.mul(self.through_write, self.step, out=gradients.grad_x[span].unsqueeze(2))
        gradients.grad_B[span].add_(self.grad_B)
        gradients.grad_C[span].add_(self.grad_C)

    def _starts(self, span: slice) -> list[Tensor]:
        """The state before each tile of the span: kept, or run again from the last kept one."""
        part, every, found = self.part, self.gradients.every, []
        for lo in range(0, self.length, every):
            found.append(self.gradients.kept[(span.start + lo) // every])
            last = range(lo, min(lo + every, self.length), part.steps)[-1]
            if last > lo:
                again = (tensor[lo:last] for tensor in (self.step, self.written, self.B))
                found += [tile.rows[-1].clone() for tile in part.states(part.pieces(*again), found[-1])]
        return found


class Steps:
    """One tile's steps: their decays once more, the adjoints, the states once more, and then the gradients.

    The states come last, so that the decays can become what they leave of the state before: then the gradient in dt A
    is one product more. Most passes take a whole tile; only what one step hands to the next goes step by step.
    """

    def __init__(self, group: Group, span: slice) -> None:
        self.gradients, self.part = group.gradients, (part := group.part)
        steps, ones = span.stop - span.start, group.gradients.ones
        self.step, self.written, self.gy, self.B, self.C = (
            tensor[span] for tensor in (group.step, group.written, group.gy, group.B, group.C)
        )
        gradients = (*group.sums, group.through_write, group.through_decay)
        self.grad_B, self.grad_C, self.through_write, self.through_decay = (t[span].flatten(0, 1) for t in gradients)
        self.written_rows, self.gy_rows = (t[span].flatten(0, 1) for t in group.over_channels)
        self.B_row = self.B.mT.flatten(0, 1)
        self.decay, self.l, self.states = (tile.first(steps) for tile in (*part.tiles, group.gradients.states))
        inputs = self.B.unbind(0), self.written.unbind(0)
        self.forward = list(zip(self.decay.rows, *inputs, self.states.rows, strict=True))
        self.back = list(self.l.rows[-2::-1]), list(self.decay.rows[:0:-1]), list(self.l.rows[:0:-1])
        rows = len(self.gy_rows)
        self.over_state, self.over_steps = ones[:rows, :, : len(part.rates)], ones[0, :, :rows]
        self.through_rows = self.decay.flat.flatten(1)

    def run(self, start: Tensor) -> None:
        part, decay, states, l, adjoint = self.part, self.decay, self.states, self.l, self.gradients.adjoint
        part.decays(self.step, decay)
        torch.mul(self.C, self.gy, out=l.full)
        l.rows[-1].add_(adjoint)
        if self.back[0]:
            self.gradients.walk(*self.back)
        torch.bmm(self.written_rows, l.turned, out=self.grad_B)
        torch.bmm(self.B_row, l.flat, out=self.through_write)
        torch.mul(decay.rows[0], l.rows[0], out=adjoint)
        for left, b, u, state in self.forward:  # of the state before; from here on `decay` holds that
            start = torch.addcmul(left.mul_(start), b, u, out=state)
        torch.bmm(self.gy_rows, states.turned, out=self.grad_C)
        through = decay.full.mul_(l.full)  # dL/d(dt_t A)
        torch.mul(through, part.A, out=l.full)
        torch.bmm(self.over_state, l.flat, out=self.through_decay)
        through.mul_(self.step)
        self.gradients.rates.addmm_(self.over_steps, self.through_rows)
