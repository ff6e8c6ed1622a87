"""The edges of a causal support: the first column that each row sees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.operator.streams.tile import Places
from mixerlens.support import Support


class Borders:
    """Windows, segments in runs, and padding; ``first`` (batch | 1, padded time) is None where rows see every token."""

    def __init__(self, support: Support, time: int, padded: int, device: torch.device) -> None:
        self.first: Tensor | None = None
        if support.window is None and support.segments is None:
            return
        token = torch.arange(time, device=device)
        first = torch.zeros(1, time, dtype=torch.long, device=device)
        if support.segments is not None:
            s = support.segments.to(device)
            new = torch.cat([torch.ones_like(s[:, :1], dtype=torch.bool), s[:, 1:] != s[:, :-1]], 1)
            first = torch.where(new, token, 0).cummax(1).values
            first = torch.where(s >= 0, first, padded)  # padding sees nothing
        if support.window is not None:
            first = torch.maximum(first, token - support.window + 1)
        self.first = pad(first, (0, padded - time), value=padded)

    def within(self, rows: Places, columns: Places) -> Tensor | bool:
        """The support of a tile at or left of the diagonal, (batch | 1, 1, pairs, columns, rows): True for all of it,
        False for none of it."""
        if self.first is None:
            return True
        first, column = rows.of(self.first), columns.tokens(self.first.device)
        if bool((first <= column[:, :1]).all()):
            return True
        if bool((first > column[:, -1:]).all()):
            return False
        return (column[:, :, None] >= first[:, :, None, :]).unsqueeze(1)

    def passed(self, rows: Places, column: int) -> bool:
        """No row sees a token before this one."""
        return self.first is not None and bool((rows.of(self.first) >= column).all())
