"""What a turn touches beforehand, by the system's own count of resident memory."""

from __future__ import annotations

import sys

import pytest
import torch

from bench import resident, timing

SIZE = 48 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="high-water marks are set back on Linux only")
def test_the_next_turn_is_preceded_by_as_much_memory_as_the_last_touched(monkeypatch):
    mark, before_turn = resident.mark, []

    def spied():
        before_turn.append(resident.peak())
        return mark()

    monkeypatch.setattr(resident, "mark", spied)
    backed, found = resident.Backed(), []
    for name in ("way", "way", "way", "another"):
        before = mark()
        with backed.turn(name):
            found.append(before_turn.pop() - before)
            if name == "way":
                torch.ones(SIZE, dtype=torch.uint8)
    first, second, third, another = found
    assert first < SIZE / 4
    assert SIZE <= second < 2 * SIZE
    assert SIZE <= third < 2 * SIZE  # nothing is held from turn to turn, and nothing adds up
    assert another < SIZE / 4


def test_turns_are_not_timed():
    now, order = 0.0, []

    class Turn:
        def __init__(self, name):
            order.append(name)

        def __enter__(self):
            nonlocal now
            now += 100.0

        def __exit__(self, *_):
            nonlocal now
            now += 100.0

    def call():
        nonlocal now
        now += 1.0

    samples = timing.interleaved({"a": call, "b": call}, 0.0, 2, clock=lambda: now, turn=Turn)
    assert samples == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert order == ["a", "b", "a", "b"]
