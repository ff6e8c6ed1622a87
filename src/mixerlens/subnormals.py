"""Numbers below the smallest normal one: a processor takes a hundred times longer over each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def subnormals_as_zero() -> Iterator[None]:
    """Inside, what is below the smallest normal number of its dtype (1e-38 in float32) counts as zero: what decays
    passes through these numbers on its way to zero. The setting before is put back."""
    before = float(torch.full((1,), 1e-310, dtype=torch.float64) * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
