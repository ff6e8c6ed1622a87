"""Tables for a terminal, at any width: words and numbers are never cut in two where there is room for them at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

GAP = 2  # blanks between columns


class Pieces:
    """A cell that breaks between its pieces only, where a plain text breaks between words.

    ``Pieces.after("left/position_ids", "/")`` breaks after a slash.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    @classmethod
    def after(cls, text: str, marks: str) -> Pieces:
        """Pieces of a text that end after each of the given characters."""
        cuts = [0, *(k + 1 for k, character in enumerate(text) if character in marks), len(text)]
        return cls(text[low:high] for low, high in pairwise(cuts))

    def lines(self, width: int) -> list[str]:
        """As many pieces a line as fit."""
        from rich.cells import cell_len

        lines: list[str] = []
        for piece in self.pieces:
            if lines and cell_len((lines[-1] + piece).rstrip()) <= width:
                lines[-1] += piece
            else:
                lines.append(piece.lstrip())
        return [line.rstrip() for line in lines]


Cell = str | Pieces
MARKS = "_./-"  # in names, where a word too long for its column breaks first


def _lines(cell: Cell, width: int) -> str:
    from rich.cells import cell_len

    if isinstance(cell, Pieces):
        return "\n".join(cell.lines(width))
    long = {word for word in cell.split() if cell_len(word) > width}
    for word in sorted(long, key=len, reverse=True):
        cell = cell.replace(word, "\n".join(Pieces.after(word, MARKS).lines(width)))
    return cell


@dataclass
class Grid:
    """A table under a title; what ``rich`` prints. Nothing in it is read as markup.

    columns: their headings. right: those with numbers, aligned right; a line of theirs does not break. spare: those
    to leave out, the first first, where words would have to be cut to show them. styles: of cells, by (row, heading).
    """

    title: str
    columns: Sequence[str]
    right: Collection[str] = ()
    spare: Sequence[str] = ()
    rows: list[Sequence[Cell]] = field(default_factory=list)
    styles: dict[tuple[int, str], str] = field(default_factory=dict)

    def add_row(self, *cells: Cell) -> None:
        """One cell a column; a text may have several lines."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(cells)

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        shown, widths = self._fit(options.max_width)
        yield Text(self.title, "bold")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
        for name, width in zip(shown, widths, strict=True):
            justify = "right" if name in self.right else "left"
            table.add_column(Text(name), justify=justify, width=width, overflow="fold")
        for k, row in enumerate(self.rows):
            cells = [cell for name, cell in zip(self.columns, row, strict=True) if name in shown]
            texts = [_lines(cell, width) for cell, width in zip(cells, widths, strict=True)]
            styles = [self.styles.get((k, name), "") for name in shown]
            table.add_row(*(Text(text, style) for text, style in zip(texts, styles, strict=True)))
        yield table

    def _fit(self, room: int) -> tuple[list[str], list[int]]:
        """The columns that are shown and their widths: all that they need, else at least their longest word each.

        Where even that is too much, the widest columns shrink and words break, after a mark in them if there is one.
        """
        shown, spare = list(self.columns), list(self.spare)
        least, most = zip(*(self._measure(name) for name in shown), strict=True)
        while spare and sum(least) + GAP * (len(shown) - 1) > room:
            shown.remove(spare.pop(0))
            least, most = zip(*(self._measure(name) for name in shown), strict=True)
        left = room - GAP * (len(shown) - 1)
        widths = list(least)
        while sum(widths) > max(left, len(widths)):
            widths[widths.index(max(widths))] -= 1
        for k in sorted(range(len(widths)), key=lambda k: most[k] - widths[k]):  # so that most columns break no line
            widths[k] += max(0, min(most[k] - widths[k], left - sum(widths)))
        return shown, widths

    def _measure(self, name: str) -> tuple[int, int]:
        """The least width that cuts no word, and the width that breaks no line."""
        from rich.cells import cell_len

        place = list(self.columns).index(name)
        least, most = [cell_len(word) for word in name.split()], [cell_len(name)]
        for row in self.rows:
            cell = row[place]
            if isinstance(cell, Pieces):
                least += [cell_len(piece.strip()) for piece in cell.pieces]
                most.append(cell_len("".join(cell.pieces).strip()))
            else:
                least += [cell_len(part) for part in (cell.splitlines() if name in self.right else cell.split())]
                most += [cell_len(line) for line in cell.splitlines()]
        return max(least, default=1), max(most)
