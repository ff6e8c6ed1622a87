"""The backward pass of one block of the delta rule's scan, in the notation of `delta_blocks`."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.scans.delta_blocks import Block


class Gradients:
    def __init__(self, block: Block, grad_y: Tensor) -> None:
        self.block, self.room, self.grad_y = block, block.part.room, block.tiles("grad_y", grad_y)
        room, key = self.room, block.key
        self.kept, self.factor = key, block.beta
        if block.gated:
            self.kept = torch.mul(key, block.until, out=room("kept", *key.shape))
            self.factor = block.beta * block.since
        self.forgotten = torch.mul(key, self.factor, out=room("forgotten", *key.shape))
        self.overlaps = torch.bmm(key, key.mT, out=room("overlaps", *block.scores.shape)).mul_(block.mask)
        self.overlaps.diagonal(dim1=-2, dim2=-1).zero_()  # what is solved is strictly below the diagonal

    def run(self, adjoint: Tensor, into: list[Tensor | None]) -> None:
        """Fills `into` (query, key, value, log_decay, beta); carries `adjoint`, the state's gradient, back in place."""
        block, gy, room, part = self.block, self.grad_y, self.room, self.block.part
        self._adjoints(adjoint)
        # the outputs: y = mixing corrected + read S
        grad_scores = torch.bmm(gy, block.corrected.mT, out=room("grad_scores", *block.scores.shape)).mul_(block.mask)
        recall = torch.bmm(gy, block.states.mT, out=room("recall", *block.key.shape))
        grad_query = torch.bmm(grad_scores, block.key, out=room("grad_query", *block.key.shape))
        grad_key = torch.bmm(grad_scores.mT, block.query, out=room("grad_key", *block.key.shape))
        _add(grad_query, recall, block.since if block.gated else None)
        # the corrected values: (1 + beta overlaps) corrected = beta (V - since K S)
        to_value = self.to_value
        less = torch.bmm(to_value, block.corrected.mT, out=block.mixing)  # minus the system's gradient
        pairs = torch.mul(less, self.overlaps, out=self.overlaps)
        less.mul_(block.mask).mul_(block.beta).diagonal(dim1=-2, dim2=-1).zero_()
        grad_key.baddbmm_(less, block.key, alpha=-1).baddbmm_(less.mT, block.key, alpha=-1)
        recalled = torch.bmm(to_value, block.states.mT, out=room("recalled", *block.key.shape))
        grad_key.addcmul_(recalled, self.factor, value=-1)
        by_key = self._dot(recalled, block.key)
        if block.gated:
            by_key.mul_(block.since)
        grad_beta = self._dot(to_value, block.value) - pairs.sum(-1, keepdim=True) - by_key
        # the state left to the next chunk: kept^T corrected
        grad_kept = torch.bmm(block.corrected, self.later.mT, out=room("grad_kept", *block.key.shape))
        _add(grad_key, grad_kept, block.until if block.gated else None)
        if block.gated:
            pairs.mul_(block.beta.neg()).addcmul_(grad_scores, block.scores).diagonal(dim1=-2, dim2=-1).zero_()
            since = self._dot(block.read, recall) - by_key.mul_(block.beta)
            whole = self._dot(block.states.flatten(1), self.later.flatten(1)).unsqueeze(-1) * block.total.view(-1, 1, 1)
            crossing = _through_decays(pairs, since, self._dot(self.kept, grad_kept), whole)
            self._store(into[3], part.heads, crossing)
        self._store(into[0], part.groups, grad_query)
        self._store(into[1], part.groups, grad_key)
        self._store(into[2], part.heads, to_value.mul_(block.beta))
        self._store(into[4], part.heads, grad_beta)

    def _dot(self, left: Tensor, right: Tensor) -> Tensor:
        """Inner products of rows, (..., 1)."""
        return torch.mul(left, right, out=self.room("products", *left.shape)).sum(-1, keepdim=True)

    def _adjoints(self, adjoint: Tensor) -> None:
        """Fills `later`, the gradient of the state after each chunk, and `to_value`, that of beta (V - l K S)."""
        block, gy, flat = self.block, self.grad_y, adjoint.view(-1, *adjoint.shape[2:])
        corrected = torch.bmm(block.mixing.mT, gy, out=self.room("grad_corrected", *gy.shape))
        direct = torch.bmm(block.read.mT, gy, out=self.room("direct", *block.states.shape))  # through the outputs
        self.later, self.to_value = self.room("later", *block.states.shape), self.room("to_value", *gy.shape)
        later, direct, *pieces = (block.each(tensor) for tensor in (self.later, direct, corrected, self.kept))
        pieces += [block.each(tensor) for tensor in (block.inverse, self.forgotten, self.to_value)]
        later[-1].copy_(flat)
        for number in reversed(range(block.chunks)):
            corrected, kept, inverse, forgotten, to_value = (piece[number] for piece in pieces)
            torch.bmm(inverse.mT, corrected.baddbmm_(kept, later[number]), out=to_value)
            state = later[number - 1] if number else flat  # the gradient of the state before the chunk
            if block.gated:
                torch.addcmul(direct[number], later[number], block.total[number], out=state)
            else:
                torch.add(direct[number], later[number], out=state)
            state.baddbmm_(forgotten.mT, to_value, alpha=-1)

    def _store(self, into: Tensor | None, heads: slice, gradient: Tensor) -> None:
        """Puts a (chunks * batch * heads, chunk, dim) gradient where it belongs; heads of a group add up."""
        block, part = self.block, self.block.part
        assert into is not None  # log_decay alone may be missing, and is not stored then
        target = into[part.sequences, block.span, heads].unflatten(1, (block.chunks, -1))
        gradient = block.untiled(gradient)
        if heads is part.groups and part.per_group > 1:
            gradient = gradient.unflatten(3, (-1, part.per_group)).sum(4)
        gradient = gradient if target.ndim == 5 else gradient.squeeze(-1)
        if heads is part.groups and part.shared:
            target.add_(gradient)
        else:
            target.copy_(gradient)


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
