"""Mamba-2's scan (SSD): forward at 2k and 8k."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.case import OURS, Bar, Case, Contender, Inputs, Size
from bench.peers import transformers

SIZE = {"batch": 1, "time": 2048, "heads": 24, "head_dim": 64, "state": 128}
GRADIENTS = ("x", "dt", "A", "B", "C")
QUICK = {"batch": 1, "time": 70, "heads": 2, "head_dim": 4, "state": 8}
CHUNK = 64
FLOPS_NOTE = (
    f"chunked form, chunk {CHUNK}, one group: C B^T once for all heads, then a head's scores on its values, "
    "its state read and written (2 flops a multiply-add)"
)


def make(size: Size) -> Inputs:
    """A = -(1 .. heads) and log-uniform steps of 0.001 .. 0.1, as Mamba-2 is initialised; one group."""
    b, t, heads, dim, n = (size[k] for k in ("batch", "time", "heads", "head_dim", "state"))
    low, high = math.log(1e-3), math.log(1e-1)
    bias = low + (high - low) * torch.rand(heads)
    return {
        "x": torch.randn(b, t, heads, dim),
        "dt": torch.exp(bias + 0.5 * torch.randn(b, t, heads)),
        "A": -torch.arange(1.0, heads + 1),
        "B": torch.randn(b, t, 1, n),
        "C": torch.randn(b, t, 1, n),
        "grad": torch.randn(b, t, heads, dim),
    }


def flops(size: Size) -> float:
    b, t, heads, dim, n = (size[k] for k in ("batch", "time", "heads", "head_dim", "state"))
    return 2.0 * b * t * (CHUNK * n + heads * (CHUNK * dim + 2 * dim * n))


def ours(given: Inputs) -> Tensor:
    from mixerlens.scans import ssd_scan

    return ssd_scan(*(given[name] for name in GRADIENTS))[0]


def plain(given: Inputs) -> Tensor:
    from mixerlens import references

    named = {name: given[name] for name in ("A", "B", "C", "dt")}
    return references.REGISTRY["mamba2"](value=given["x"], **named)


def _case(time: int, bound: float) -> Case:
    return Case(
        name=f"mamba2-forward-{time}",
        title=f"Mamba-2 scan, forward, L = {time}",
        make=make,
        size=SIZE | {"time": time},
        quick=QUICK,
        gate=SIZE | {"time": 1000},
        contenders=(Contender("mixerlens", ours, tolerance=OURS), transformers.MAMBA2_FORWARD),
        reference=lambda given: (plain(given),),
        bars=(Bar("speed", "mixerlens", bound, "transformers"),),
        flops=flops,
        flops_note=FLOPS_NOTE,
    )


CASES = (_case(2048, 5), _case(8192, 12))
