"""How the scans with heads cut their arguments, so that what they work on at once stays near the cache."""

from __future__ import annotations

from collections.abc import Iterator


def cuts(batch: int, heads: int, groups: int, most: int) -> Iterator[tuple[slice, slice, slice]]:
    """Sequences, groups and heads with at most about `most` sequences times heads: whole groups, or pieces of one."""
    per_group = heads // groups
    piece = -(-per_group // -(-per_group // most))  # heads a group
    columns = max(1, most // per_group)
    rows = max(1, most // (piece * min(columns, groups)))
    for first in range(0, batch, rows):
        sequences = slice(first, min(first + rows, batch))
        for group in range(0, groups, columns):
            last = min(group + columns, groups)
            for head in range(group * per_group, last * per_group, piece if columns == 1 else heads):
                end = min(head + piece if columns == 1 else heads, last * per_group)
                yield sequences, slice(group, last), slice(head, end)


def blocks(time: int, chunk: int, count: int) -> list[list[slice]]:
    """The chunks of each block of `count`; a last chunk that is shorter is a block by itself."""
    whole = time - time % chunk
    chunks = [slice(lo, lo + chunk) for lo in range(0, whole, chunk)]
    found = [chunks[first : first + count] for first in range(0, len(chunks), count)]
    return found if whole == time else [*found, [slice(whole, time)]]
