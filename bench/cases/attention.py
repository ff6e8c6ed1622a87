"""The effective attention of a layer the size of mamba-130m's, all channels: linear views, statistics of |alpha|."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bench import views
from bench.case import OURS, Bar, Case, Contender, Inputs
from bench.cases import mamba1
from bench.peers import transformer_lens

SIZE = {"batch": 1, "time": 512, "channels": 1536, "state": 16}
QUICK = {"batch": 1, "time": 80, "channels": 8, "state": 4}
GATE = SIZE | {"time": 200, "channels": 48}


def dynamics(given: Inputs) -> Any:
    from mixerlens import families

    return families.mamba(**arguments(given))


def arguments(given: Inputs) -> Inputs:
    return {name: given[name] for name in ("A", "B", "C", "dt")}


def dense(given: Inputs) -> Tensor:
    return views.alpha("mamba", arguments(given), *given["dt"].shape[1:])


CASES = (
    Case(
        name="attention-linear",
        title="Effective attention, linear views of all 1536 channels, L = 512",
        make=mamba1.make,
        size=SIZE,
        quick=QUICK,
        gate=GATE,
        contenders=(
            Contender("one forward", mamba1.ours, tolerance=OURS),
            *(views.linear(name, dynamics, dense) for name in views.LINEAR),
        ),
        reference=lambda given: (mamba1.plain(given),),
        bars=(
            *(Bar("units", name, 4, "one forward") for name in list(views.LINEAR)[:3]),
            Bar("units", list(views.LINEAR)[3], None, "one forward"),
        ),
        note=f"one forward is our scan of the same layer; the signed heat map is {views.PIXELS} x {views.PIXELS} cells",
    ),
    Case(
        name="attention-statistics",
        title="Effective attention, |alpha| statistics of all 1536 channels, L = 512",
        make=mamba1.make,
        size=SIZE,
        quick=QUICK,
        gate=GATE,
        contenders=(
            Contender("mixerlens", lambda given: views.statistics(dynamics(given).operator()), tolerance=OURS),
            transformer_lens.STATISTICS,
        ),
        reference=lambda given: views.dense_statistics(dense(given)),
        bars=(Bar("speed", "mixerlens", 70, "TransformerLens"), Bar("MiB", "mixerlens", 1024)),
        note="row mass, column mass and mean distance; TransformerLens at the lengths that fit the memory, its time at "
        "L = 512 extrapolated by its own fitted exponent",
    ),
)
