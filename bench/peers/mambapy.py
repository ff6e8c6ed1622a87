"""mambapy: the scan of its Mamba block, which runs its parallel scan (`pscan`)."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.case import Contender, Inputs
from bench.gradients import forward_backward, leaves

NEEDS = ("mambapy.mamba",)
_GRADIENTS = ("x", "dt", "A", "B", "C")


def scan(given: Inputs) -> Tensor:
    from mambapy.mamba import MambaBlock

    # the method reads nothing of its module; the skip D is 0, as nobody else here has one
    return MambaBlock.selective_scan(None, *(given[name] for name in _GRADIENTS), given["D"])  # pyright: ignore


def with_skip(given: Inputs) -> Inputs:
    return given | {"D": torch.zeros(given["x"].shape[-1])}


FORWARD = Contender("mambapy", scan, with_skip, needs=NEEDS, peer=True)
BOTH = Contender(
    "mambapy",
    forward_backward(scan, _GRADIENTS),
    lambda given: leaves(with_skip(given), _GRADIENTS),
    needs=NEEDS,
    peer=True,
)
