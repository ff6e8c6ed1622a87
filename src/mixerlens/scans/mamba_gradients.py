"""The selective scan's backward pass over one part of its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.scans.mamba_tiles import SPAN, Part


class Gradients:
    """Walks a part back in time; the gradients of x, dt, B and C go where `into` says, those of A add up in `rates`."""

    def __init__(
        self, part: Part, grad_y: Tensor, grad_state: Tensor, into: dict[str, Tensor], kept: Tensor, every: int
    ):
        self.part, self.grad_y, self.into, self.kept, self.every = part, part.of(grad_y), into, part.kept(kept), every
        self.adjoint = part.state(grad_state).contiguous()  # dL/dh_t as seen from the steps after t
        self.state = torch.empty_like(self.adjoint)
        size, channels = part.rates.shape
        self.rates = part.x.new_zeros(1, size * channels)
        self.ones = part.x.new_ones(part.steps * part.batch, 1, max(size, part.steps * part.batch))
        self.group = every * max(1, SPAN // every)  # steps that are prepared and stored at once
        self.small = part.x.new_empty(2, self.group * part.batch, 1, size)
        self.wide = part.x.new_empty(4, self.group, part.batch, 1, channels)

    def run(self) -> None:
        """All gradients but the initial state's, which `adjoint` is then."""
        time, total = len(self.part.x), torch.zeros_like(self.rates, dtype=torch.float64)
        for lo in reversed(range(0, time, self.group)):
            self._group(slice(lo, min(lo + self.group, time)))
            total += self.rates
            self.rates.zero_()
        into = self.into["A"][self.part.channels]
        into += total.view(self.part.rates.shape).T

    def _starts(self, span: slice, *inputs: Tensor) -> list[Tensor]:
        """The state before each tile of the span: kept, or run again from the last kept one."""
        part, found = self.part, []
        for lo in range(span.start, span.stop, self.every):
            found.append(self.kept[lo // self.every])
            last = range(lo, min(lo + self.every, span.stop), part.steps)[-1]
            if last > lo:
                again = (tensor[lo - span.start : last - span.start] for tensor in inputs)
                found += [tile.rows[-1].clone() for tile in part.states(part.pieces(*again), found[-1])]
        return found

    def _group(self, span: slice) -> None:
        part, steps, block = self.part, self.part.steps, self.part.steps * self.part.batch
        step, x, B, C = part.rows(part.dt[span]), part.rows(part.x[span]), part.B[span], part.C[span]
        written, gy, through_write, through_decay = self.wide[:, : len(step)]
        torch.mul(step, x, out=written)
        gy.copy_(self.grad_y[span].unsqueeze(2))
        rows = len(step) * part.batch
        grad_B, grad_C = self.small[:, :rows]
        by_step = (tensor.split(steps) for tensor in (step, written, gy, B, C))
        flat = (gy.flatten(0, 1), written.flatten(0, 1), B.flatten(0, 1).mT)
        flat += (grad_B, grad_C, through_write.flatten(0, 1), through_decay.flatten(0, 1))
        starts = self._starts(span, step, written, B)
        for tile in reversed(list(zip(starts, *by_step, *(tensor.split(block) for tensor in flat), strict=True))):
            self._tile(*tile)
        into_x, into_dt = (part.of(self.into[name])[span].unsqueeze(2) for name in ("x", "dt"))
        torch.addcmul(through_decay, through_write, x, out=into_dt)
        torch.mul(through_write, step, out=into_x)
        grad_C = grad_C.view(B.shape).addcmul_(B, torch.matmul(gy, written.mT))  # what step t itself wrote
        for name, gradient in (("B", grad_B), ("C", grad_C)):
            self.into[name][part.sequences, span] += gradient.view(*step.shape[:2], -1).transpose(0, 1)

    def _tile(
        self,
        state,
        step,
        written,
        gy,
        B,
        C,
        gy_row,
        written_row,
        B_row,
        grad_B,
        grad_C,
        through_write,
        through_decay,
    ) -> None:
        part = self.part
        decay, old, l = (tile.first(len(step)) for tile in part.tiles)
        part.decays(step, decay)
        # one step is a vector operation over all other axes; old is exp(dt_t A) h_{t-1}
        for row, a, b, u in zip(old.rows, decay.rows, B.unbind(0), written.unbind(0), strict=True):
            state = torch.addcmul(torch.mul(a, state, out=row), b, u, out=self.state)
        torch.bmm(gy_row, old.turned, out=grad_C)
        backwards = (reversed(rows) for rows in (l.rows, decay.rows, C.unbind(0), gy.unbind(0)))
        for row, a, c, g in zip(*backwards, strict=True):
            torch.mul(torch.addcmul(self.adjoint, c, g, out=row), a, out=self.adjoint)
        torch.bmm(written_row, l.turned, out=grad_B)
        torch.bmm(B_row, l.flat, out=through_write)
        old.full.mul_(l.full)  # dL/d(dt_t A)
        torch.mul(old.full, part.A, out=decay.full)
        torch.bmm(self.ones[: len(grad_B), :, : len(part.rates)], decay.flat, out=through_decay)
        old.full.mul_(step)
        self.rates.addmm_(self.ones[0, :, : len(grad_B)], old.flat.flatten(1))
