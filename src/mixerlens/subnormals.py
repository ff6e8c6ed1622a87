"""Numbers below the smallest normal one: a processor takes a hundred times longer over each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def subnormals_as_zero() -> Iterator[None]:
    """Inside, what is below the smallest normal number of its dtype (1e-38 in float32) counts as zero: what decays
    passes through these numbers on its way to zero. The setting, which is this thread's own, is put back."""
    _start_pool()
    before = float(torch.full((1,), 1e-310, dtype=torch.float64, device="cpu") * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@cache
def _start_pool() -> None:
    """Threads take this setting over from the one that starts them, and torch's live on: let it start them before."""
    torch.ones(2**17, device="cpu").add_(1)
