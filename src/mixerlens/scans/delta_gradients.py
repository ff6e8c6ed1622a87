"""The backward pass of one block of the delta rule's scan, in the notation of `delta_blocks`."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.scans.delta_blocks import Block


class Gradients:
    def __init__(self, block: Block, grad_y: Tensor) -> None:
        self.block, self.grad_y = block, block.tiles(grad_y)

    def run(self, adjoint: Tensor, into: list[Tensor | None]) -> Tensor:
        """Adds to `into` (query, key, value, log_decay, beta); from the last state's gradient to the first state's."""
        block, gy, mask = self.block, self.grad_y, self.block.mask
        states, (dim, gated) = block.states[:-1], (block.value.shape[-1], block.decays is not None)
        first = self._adjoints(adjoint)
        # the outputs: y = mixing corrected + read S
        grad_scores = torch.matmul(gy, block.corrected.mT)
        own = grad_scores.diagonal(dim1=-2, dim2=-1).clone()
        grad_scores.mul_(mask).diagonal(dim1=-2, dim2=-1).copy_(own)  # a token reads its own write undecayed
        recall = torch.matmul(gy, states.mT)
        grad_query = torch.matmul(grad_scores, block.key)
        grad_key = torch.matmul(grad_scores.mT, block.query)
        _add(grad_query, recall, block.since if gated else None)
        # the corrected values: solved [1, -S], where solved = inverse asked
        grad_solved = torch.empty_like(block.solved)
        grad_solved[..., :dim] = self.corrected
        grad_solved[..., dim:] = torch.matmul(self.corrected, states.mT).neg_()
        grad_asked = torch.matmul(block.inverse.mT, grad_solved)
        grad_system = torch.matmul(grad_asked, block.solved.mT).neg_()
        to_value, to_key = grad_asked[..., :dim], grad_asked[..., dim:]
        by_key = (to_key * block.key).sum(-1, keepdim=True)
        if gated:
            by_key.mul_(block.since)
        pairs = grad_system * block.overlaps
        grad_beta = pairs.sum(-1, keepdim=True) + (to_value * block.value).sum(-1, keepdim=True) + by_key
        grad_overlaps = grad_system.mul_(mask).mul_(block.beta)
        grad_key.flatten(0, 1).baddbmm_((grad_overlaps + grad_overlaps.mT).flatten(0, 1), block.key.flatten(0, 1))
        _add(grad_key, to_key, block.beta * block.since if gated else block.beta)
        # the state left to the next chunk: kept^T corrected
        grad_kept = torch.matmul(block.corrected, self.later.mT)
        _add(grad_key, grad_kept, block.until if gated else None)
        self._store(into[0], block.part.groups, grad_query)
        self._store(into[1], block.part.groups, grad_key)
        self._store(into[2], block.part.heads, to_value.mul_(block.beta))
        self._store(into[4], block.part.heads, grad_beta)
        if gated:
            pairs.mul_(block.beta).addcmul_(grad_scores, block.scores).diagonal(dim1=-2, dim2=-1).zero_()
            since = by_key.mul_(block.beta) + (block.read * recall).sum(-1, keepdim=True)
            until = (block.kept * grad_kept).sum(-1, keepdim=True)
            whole = (states * self.later).sum((-2, -1))[..., None, None] * block.total
            self._store(into[3], block.part.heads, _through_decays(pairs, since, until, whole))
        return first

    def _adjoints(self, adjoint: Tensor) -> Tensor:
        """Fills `corrected`, the gradient of the corrected values, and `later`, that of the state after each chunk."""
        block, gy = self.block, self.grad_y
        shape, adjoint = adjoint.shape, adjoint.flatten(0, 1)
        self.corrected = torch.matmul(block.mixing.mT, gy)
        direct = torch.matmul(block.read.mT, gy)  # through the outputs
        self.later = torch.empty_like(block.states[:-1])
        for number in reversed(range(block.chunks)):
            self.later[number] = adjoint
            self.corrected[number].baddbmm_(block.kept[number], adjoint)
            if block.decays is not None:
                adjoint = adjoint * block.total[number]
            adjoint = direct[number].add_(adjoint)
            adjoint.baddbmm_(block.erased[number].mT, self.corrected[number], alpha=-1)
        return adjoint.view(shape)

    def _store(self, into: Tensor | None, heads: slice, gradient: Tensor) -> None:
        """Adds a (chunks, batch * heads, chunk, dim) gradient where it belongs; heads of a group add up."""
        part = self.block.part
        assert into is not None  # log_decay alone may be missing, and is not stored then
        target = into[part.sequences, self.block.span, heads]
        gradient = self.block.untiled(gradient).flatten(1, 2)
        if heads is part.groups and part.per_group > 1:
            gradient = gradient.unflatten(2, (-1, part.per_group)).sum(3)
        target += gradient if target.ndim == 4 else gradient.squeeze(-1)


def _add(target: Tensor, tensor: Tensor, factor: Tensor | None) -> None:
    if factor is None:
        target.add_(tensor)
    else:
        target.addcmul_(tensor, factor)


def _through_decays(pairs: Tensor, since: Tensor, until: Tensor, whole: Tensor) -> Tensor:
    """Gradient of each step's log decay: all that crosses the step.

    pairs (..., i, j), i > j, crosses the steps j < t <= i; since (..., i, 1) those up to i, until (..., j, 1) those
    after j, whole (..., 1, 1) all. The sums run in float64.
    """
    change = pairs.sum(-2, dtype=torch.float64).unsqueeze(-1) - pairs.sum(-1, keepdim=True, dtype=torch.float64) + until
    return change.cumsum(-2) - change + since.double().flip(-2).cumsum(-2).flip(-2) + whole
