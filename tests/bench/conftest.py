"""A case small enough to be seen through, and a stand-in for the process that measures memory."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from bench import timing
from bench.case import Bar, Case, Contender


class NoMemory:
    """Answers as the memory process does, with numbers that are known."""

    def __init__(self):
        self.asked = []

    def peak(self, case, contender, size):
        self.asked.append((case.name, contender, dict(size)))
        return {"peak": 64 << 20, "result": 8 << 20} if contender == "peer" else {"peak": 10 << 20, "result": 8 << 20}


@pytest.fixture
def memory():
    return NoMemory()


def squares(given):
    return given["x"] * given["x"]


@pytest.fixture
def make_case(monkeypatch):
    """Squares of numbers; the peer can be told to be wrong by a relative error, to break or to be missing."""

    monkeypatch.setattr(timing, "SAMPLE", 0.01)

    def build(wrong=0.0, breaks=False, needs=(), **more):
        def peer(given):
            if breaks:
                raise RuntimeError("no such kernel\nand a long story")
            return squares(given) * (1 + wrong)

        settings = {
            "bars": (Bar("speed", "mixerlens", 0.5, "peer"), Bar("memory", "mixerlens", 20, "peer")),
            "size": {"time": 32},
            "quick": {"time": 8},
            "make": lambda size: {"x": torch.randn(size["time"])},
        }
        return Case(
            name="squares",
            title="Squares",
            contenders=(Contender("mixerlens", squares), Contender("peer", peer, needs=needs, peer=True)),
            reference=lambda given: (given["x"].double() ** 2,),
            **settings | more,
        )

    return build
