"""The one size that all mixers of the search have: numbers of state a layer, for values as wide as the model."""

from __future__ import annotations

from dataclasses import replace

from ...design import MixerSpec, cost, part

__all__ = ["NUMBERS", "TOLERANCE", "WIDTH", "fits", "numbers"]

WIDTH = 64  # of the model, and of the values of all heads together
NUMBERS = 1024  # 16 for each of them, as 4 heads of 16 x 16 have
TOLERANCE = 0.07  # of NUMBERS, to either side: a normaliser carries a column more


def numbers(spec: MixerSpec) -> int | None:
    """What one layer carries from token to token: `design.cost`'s count; None where it grows with the sequence.

    Not counted are the last inputs of a short convolution, and the last key and value of a trapezoid (128 numbers of
    mamba3), which the page shows beside. The library carries the state of several writes a token, and of a write that
    waits a token, side by side; the published recurrences hold one state, and so they are counted once.
    """
    counted = cost(replace(spec, short_convolution=part("none")), WIDTH, length=2).state
    waits = spec.evolution.kind in ("read_before_write", "trapezoid")
    return None if counted is None else counted // (2 if waits else spec.micro_steps)


def fits(count: int) -> bool:
    return abs(count - NUMBERS) <= TOLERANCE * NUMBERS
