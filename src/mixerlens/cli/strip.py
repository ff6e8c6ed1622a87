"""A row of signed numbers as two lines of blocks, for a terminal without pictures."""

from __future__ import annotations

from collections.abc import Sequence

from .measuring import number

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH = 56
NAME = 12  # columns


def strip(name: str, values: Sequence[float]) -> list[str]:
    """Heights of the positive values above those of the negative ones, with the largest of each at the right.

    Heights are eighths of the largest magnitude, rounded; more values than fit are added up by neighbours.
    """
    group = -(-len(values) // WIDTH)
    sums = [sum(values[k : k + group]) for k in range(0, len(values), group)]
    size = max(map(abs, sums))
    lines = []
    for sign, title in ((1, name), (-1, "")):
        heights = [max(0.0, sign * value) / size if size else 0.0 for value in sums]
        blocks = "".join(BLOCKS[round(8 * height)] for height in heights)
        largest = number(sign * size * max(heights)) if any(heights) else ""
        lines.append(f"{title:<{NAME}} {'+' if sign > 0 else '-'} {blocks} {largest}".rstrip())
    return lines
