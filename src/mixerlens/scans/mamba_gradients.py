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
        self.rates = torch.zeros(part.rates.shape, dtype=torch.float64, device=part.x.device)
        size, channels = part.rates.shape
        self.ones = part.x.new_ones(1, 1, size).expand(part.steps * part.batch, 1, size)
        self.group = every * max(1, SPAN // every)  # steps that are prepared and stored at once
        rows = min(self.group, len(part.x)) * part.batch
        self.small = part.x.new_empty(2, rows, 1, size)
        self.wide = part.x.new_empty(2, rows, 1, channels)

    def run(self) -> None:
        time = len(self.part.x)
        for lo in reversed(range(0, time, self.group)):
            self._group(slice(lo, min(lo + self.group, time)))
        self.into["A"][self.part.channels] += self.rates.T.to(self.part.rates.dtype)

    def _starts(self, span: slice, *inputs: Tensor) -> list[Tensor]:
        """The state before each tile of the span: kept, or run again from the last kept one."""
        part, found = self.part, []
        for lo in range(span.start, span.stop, self.every):
            found.append(self.kept[lo // self.every])
            last = range(lo, min(lo + self.every, span.stop), part.steps)[-1]
            if last > lo:
                again = (tensor[lo - span.start : last - span.start] for tensor in inputs)
                found += [tile.rows[-1].clone() for tile in part.states(*again, found[-1])]
        return found

    def _group(self, span: slice) -> None:
        part, steps, block = self.part, self.part.steps, self.part.steps * self.part.batch
        step, x, gy = (part.rows(tensor[span]) for tensor in (part.dt, part.x, self.grad_y))
        gy, written, B, C = gy.contiguous(), (step * x).contiguous(), part.B[span], part.C[span]
        rows = len(step) * part.batch
        grad_B, grad_C = self.small[:, :rows]
        through_write, through_decay = self.wide[:, :rows]
        by_step = (tensor.split(steps) for tensor in (step, written, gy, B, C))
        flat = (
            gy.flatten(0, 1),
            written.flatten(0, 1),
            B.flatten(0, 1).mT,
            grad_B,
            grad_C,
            through_write,
            through_decay,
        )
        starts = self._starts(span, step, written, B)
        for tile in reversed(list(zip(starts, *by_step, *(tensor.split(block) for tensor in flat), strict=True))):
            self._tile(*tile)
        through_write, through_decay = through_write.view_as(step), through_decay.view_as(step)
        through_decay.div_(part.scale).addcmul_(through_write, x)
        for name, gradient in (("x", through_write.mul_(step)), ("dt", through_decay)):
            part.of(self.into[name])[span] = gradient.squeeze(2)
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
        flat_gy,
        flat_written,
        turned_B,
        grad_B,
        grad_C,
        through_write,
        through_decay,
    ) -> None:
        part = self.part
        a, h, l = (tile.first(len(step)) for tile in part.tiles)
        part.decays(step, a)
        torch.mul(B, written, out=h.full)
        previous = state
        for decay, row in zip(a.rows, h.rows, strict=True):  # one step is a vector operation over all other axes
            previous = row.addcmul_(decay, previous)
        torch.bmm(flat_gy, h.turned, out=grad_C)
        torch.mul(C, gy, out=l.full)
        later = self.adjoint
        for decay, row in zip(reversed(a.rows), reversed(l.rows), strict=True):
            later = torch.mul(row.add_(later), decay, out=decay)  # dL/dh_{t-1} through h_t; a_t is not needed again
        self.adjoint.copy_(later)
        torch.bmm(flat_written, l.turned, out=grad_B)
        torch.bmm(turned_B, l.flat, out=through_write)
        # a now holds l_t a_t; the derivative through dt_t A is that times h_{t-1}
        a.later.mul_(h.earlier)
        a.rows[0].mul_(state)
        torch.mul(a.full, part.rates, out=h.full)
        torch.bmm(self.ones[: len(flat_gy)], h.flat, out=through_decay)
        self.rates += a.full.mul_(step).sum((0, 1))
