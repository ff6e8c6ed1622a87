"""From the mask a model built to the structure of its support: causal, window, segments.

A mask is L x L and is never kept.  It is read once, row block by row block: the first and last token that each row
sees, and how many it sees.  A structure is proposed from the first and last.  Where it makes every row a run of tokens,
the three numbers decide whether the mask is that structure; elsewhere the two are compared entry by entry.  What does
not agree exactly is refused.  Rows of padding are no part of a sequence: they are neither read nor compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.errors import UnsupportedError
from mixerlens.support import Support

BLOCK = 256


@dataclass(frozen=True)
class _Rows:
    """First and last column that each row sees, -1 where it sees none, and how many it sees: (batch, time) each."""

    first: Tensor
    last: Tensor
    count: Tensor


def support_of(mask: Tensor | None, causal: bool, time: int, valid: Tensor | None) -> Support:
    """The support that a mask (batch | 1, heads | 1, time, time) describes, exactly.

    mask: True or 0 where a pair takes part, False or the dtype's lowest number (or -inf) where not; one row of it may
        stand for all queries; None means all pairs, or the causal ones where `causal` is True.
    valid: bool (batch, time), False on padding; None without padding.
    Raises UnsupportedError for a mask that is no combination of causal, window and segments, or that adds a bias.
    """
    if mask is None:
        return Support(causal=causal)
    if mask.dim() == 4 and mask.shape[-2] == 1:
        mask = mask.expand(-1, -1, time, -1)
    if mask.dim() != 4 or mask.shape[-2:] != (time, time):
        raise UnsupportedError(f"a mask of shape {tuple(mask.shape)} for {time} tokens is not understood")
    batch = mask.shape[0] if valid is None else max(mask.shape[0], valid.shape[0])
    rows = valid if valid is not None else torch.ones(batch, time, dtype=torch.bool)
    rows = rows.to(mask.device).expand(batch, time)
    extent = _extent(mask, rows)
    proposal = _propose(extent, rows, causal)
    if not _all_runs(extent, proposal, rows):
        _compare(mask, proposal, rows)
    return proposal


def _block(mask: Tensor, start: int) -> Tensor:
    """Bool (batch | 1, rows, time): which pairs take part, for one block of rows, the same for every head."""
    part = mask[:, :, start : start + BLOCK]
    if part.stride(1) == 0:
        part = part[:, :1]  # one mask that every head was handed
    if part.dtype != torch.bool:
        closed = part <= torch.finfo(part.dtype).min / 2
        if not torch.equal(_words(closed), _words(part != 0)):
            raise UnsupportedError(
                "its mask adds a bias to the scores; only masks that open or close pairs are understood"
            )
        part = ~closed
    if part.shape[1] > 1 and not (part == part[:, :1]).all():
        raise UnsupportedError("its mask differs between heads, which no support here does")
    return part[:, 0]


def _words(seen: Tensor) -> Tensor:
    """Bool (..., time) as numbers of eight entries each, (..., time / 8 rounded up): an eighth of the work."""
    return pad(seen.view(torch.uint8), (0, -seen.shape[-1] % 8)).contiguous().view(torch.int64)


def _extent(mask: Tensor, rows: Tensor) -> _Rows:
    first, last, count = (torch.full(rows.shape, -1, dtype=torch.long, device=mask.device) for _ in range(3))
    for start in range(0, rows.shape[1], BLOCK):
        words = _words(_block(mask, start))
        here = slice(start, start + words.shape[1])
        some = (words != 0).to(torch.uint8)  # argmax takes no bool
        one, other = some.argmax(-1), some.shape[-1] - 1 - some.flip(-1).argmax(-1)
        begin, end = (words.gather(-1, k[..., None]).view(torch.uint8) for k in (one, other))
        none = begin.amax(-1) == 0
        first[:, here] = torch.where(none, -1, 8 * one + begin.argmax(-1))
        last[:, here] = torch.where(none, -1, 8 * other + 7 - end.flip(-1).argmax(-1))
        # each byte counts for itself as long as there are no more than 255 to add up
        count[:, here] = sum(part.sum(-1, keepdim=True).view(torch.uint8).sum(-1) for part in words.split(255, -1))
    if ((first < 0) & rows).any():
        batch, row = ((first < 0) & rows).nonzero()[0].tolist()
        raise UnsupportedError(f"token {row} of row {batch} is no padding and its mask closes every pair")
    return _Rows(first, last, count)


def _propose(extent: _Rows, rows: Tensor, causal: bool) -> Support:
    """The only structure that can give these extents: a segment begins where a token sees nothing before itself."""
    index = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
    if rows.shape[1] > 1:
        causal = bool((extent.last <= index)[rows].all())
    begins = (extent.first >= index) & rows
    number = begins.long().cumsum(1) - 1
    segments = torch.where(rows, number, -1)
    start = torch.where(begins, index, 0).cummax(1).values
    cut = (extent.first != start) & rows
    if not causal:
        cut |= (extent.last != _segment_ends(segments)) & rows
    reach = torch.maximum(index - extent.first, extent.last - index)[rows]
    window = int(reach.max()) + 1 if bool(cut.any()) else None
    whole = bool(rows.all()) and int(number.max()) == 0
    return Support(causal=causal, window=window, segments=None if whole else segments)


def _segment_ends(segments: Tensor) -> Tensor:
    """The last token of each token's segment, (batch, time); -1 on padding."""
    final = torch.full_like(segments, -1)
    index = torch.arange(segments.shape[1], device=segments.device)
    for row, known in enumerate(segments >= 0):
        numbers = segments[row][known]
        table = torch.full_like(index, -1).scatter_reduce_(0, numbers, index[known], "amax")
        final[row][known] = table[numbers]
    return final


def _all_runs(extent: _Rows, support: Support, rows: Tensor) -> bool:
    """The support makes each row that is no padding one run of tokens, and the mask is that run."""
    time = rows.shape[1]
    index = torch.arange(time, device=rows.device).expand_as(rows)
    segments = torch.where(rows, 0, -1) if support.segments is None else support.segments
    low = torch.where(segments.diff(dim=1, prepend=segments[:, :1] - 1) != 0, index, 0).cummax(1).values
    high = index if support.causal else _segment_ends(segments)
    if support.window is not None:
        low = torch.maximum(low, index - support.window + 1)
        high = torch.minimum(high, index + support.window - 1)
    same = (extent.first == low) & (extent.last == high) & (extent.count == high - low + 1)
    return bool((same | ~rows).all())


def _compare(mask: Tensor, support: Support, rows: Tensor) -> None:
    time = rows.shape[1]
    for start in range(0, time, BLOCK):
        stop = min(start + BLOCK, time)
        given = _block(mask, start)
        ours = support.mask((start, stop), (0, time), mask.device)[:, 0]
        wrong = (given != ours) & rows[:, start:stop, None]
        if wrong.any():
            batch, i, j = wrong.nonzero()[0].tolist()
            raise UnsupportedError(
                f"its mask is no combination of causal, window and segments (row {batch}, "
                f"query {i + start}, key {j} differs)"
            )
