"""Mamba-1's selective scan: forward, and forward with backward."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from bench.case import OURS, Bar, Case, Contender, Inputs, Size
from bench.gradients import exact_gradients, forward_backward, leaves
from bench.peers import mambapy, transformers

SIZE = {"batch": 4, "time": 1024, "channels": 768, "state": 16}
QUICK = {"batch": 1, "time": 24, "channels": 8, "state": 4}
GRADIENTS = ("x", "dt", "A", "B", "C")
MULTIPLY_ADDS = 6
FLOPS_NOTE = (
    "22 a (batch, token, channel, state): 16 for exp2, 1 dt A, 1 B (dt x), 2 recurrence, 2 C h; in brackets the 6 "
    "that are no exp2"
)


def make(size: Size) -> Inputs:
    """A = -(1 .. state) and steps around a log-uniform 0.001 .. 0.1 a channel, as Mamba is initialised."""
    b, t, channels, n = (size[k] for k in ("batch", "time", "channels", "state"))
    low, high = math.log(1e-3), math.log(1e-1)
    bias = low + (high - low) * torch.rand(channels)
    return {
        "x": torch.randn(b, t, channels),
        "dt": torch.exp(bias + 0.5 * torch.randn(b, t, channels)),
        "A": -torch.arange(1.0, n + 1).repeat(channels, 1),
        "B": torch.randn(b, t, n),
        "C": torch.randn(b, t, n),
        "grad": torch.randn(b, t, channels),
    }


def flops(size: Size) -> float:
    return 22 * math.prod(size[k] for k in ("batch", "time", "channels", "state"))


def multiply_adds(size: Size) -> float:
    return flops(size) * MULTIPLY_ADDS / 22


def ours(given: Inputs) -> Tensor:
    from mixerlens.scans import selective_scan

    return selective_scan(*(given[name] for name in GRADIENTS))[0]


def plain(given: Inputs) -> Tensor:
    """The float64 recurrence, step by step."""
    from mixerlens import references

    named = {name: given[name] for name in ("A", "B", "C", "dt")}
    return references.REGISTRY["mamba"](value=given["x"][..., None], **named)[..., 0]


def with_leaves(given: Inputs) -> Inputs:
    return leaves(given, GRADIENTS)


OURS_FORWARD = Contender("mixerlens", ours, tolerance=OURS)
OURS_BOTH = Contender("mixerlens", forward_backward(ours, GRADIENTS), with_leaves, tolerance=OURS)
FORWARD_C = replace(OURS_FORWARD, name="mixerlens, C", native=True)
BOTH_C = replace(OURS_BOTH, name="mixerlens, C", native=True)

CASES = (
    Case(
        name="mamba1-forward",
        title="Mamba-1 scan, forward, L = 1024",
        make=make,
        size=SIZE,
        quick=QUICK,
        contenders=(OURS_FORWARD, FORWARD_C, transformers.MAMBA_FORWARD, mambapy.FORWARD),
        reference=lambda given: (plain(given),),
        bars=(
            Bar("speed", "mixerlens", 8, "transformers"),
            Bar("speed", "mixerlens", 14, "mambapy"),
            Bar("memory", "mixerlens", 50, "transformers"),
            Bar("memory", "mixerlens", 50, "mambapy"),
            Bar("share", "mixerlens", 0.20),
            Bar("speed", "mixerlens, C", None, "transformers"),
            Bar("speed", "mixerlens, C", None, "mambapy"),
            Bar("share", "mixerlens, C", 0.45),
        ),
        flops=flops,
        multiply_adds=multiply_adds,
        flops_note=FLOPS_NOTE,
    ),
    Case(
        name="mamba1-backward-256",
        title="Mamba-1 scan, forward + backward, L = 256",
        make=make,
        size=SIZE | {"time": 256},
        quick=QUICK,
        gate=SIZE | {"batch": 1, "time": 200},
        contenders=(OURS_BOTH, BOTH_C, transformers.MAMBA_BOTH),
        reference=exact_gradients(plain, GRADIENTS),
        bars=(Bar("speed", "mixerlens", 200, "transformers"), Bar("speed", "mixerlens, C", None, "transformers")),
    ),
    Case(
        name="mamba1-backward-1024",
        title="Mamba-1 scan, forward + backward, L = 1024",
        make=make,
        size=SIZE,
        quick=QUICK,
        gate=SIZE | {"batch": 1, "time": 200},
        contenders=(OURS_BOTH, BOTH_C, mambapy.BOTH),
        reference=exact_gradients(plain, GRADIENTS),
        bars=(Bar("speed", "mixerlens", 15, "mambapy"), Bar("speed", "mixerlens, C", None, "mambapy")),
    ),
)
