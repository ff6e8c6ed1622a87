"""The five tables of the study: their cells, by scale.

quick: two layers of width 64 and short sequences, for about four hours of one CPU core in all. paper: width 128 and the
published sizes of the tasks, for an accelerator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...design import MixerSpec, part
from ...sweep.config import RunConfig
from ...tasks import TASKS
from ..store import Cell
from . import mixers
from .observe import observed

__all__ = [
    "NORMALIZER",
    "POSITIONS",
    "READOUT",
    "SCALES",
    "SCALING",
    "SETTLED",
    "SPECTRUM",
    "TABLES",
    "Scale",
    "cell_of",
    "cells",
    "config_of",
]

READOUT, EVOLUTION, SCALING, NORMALIZER, SPECTRUM = "readout", "evolution", "scaling", "normalizer", "spectrum"
POSITIONS = {"none": "without positions", "learned": "learned positions", "rope": "RoPE"}
UNTURNED = ("two deltas, beta < 2",)  # whose several keys a token take no positions
DIMS = (8, 16, 32, 64)
RATES = (3e-3, 1e-2)
UNCLIPPED = 1e6  # of table "normalizer" and "scaling": what a clipped gradient hides
ENDLESS = {"examples": None}
# what counts: seed 0 is the one of the trials that settled the sizes, so it is in no verdict
SETTLED, SEEDS = 0, (1, 2, 3)


@dataclass(frozen=True)
class Scale:
    """heads, dim, width: of the mixers; readout: heads and dim of the table of phi, whose state must be small. steps:
    by table, or by task where there is an entry for it. tasks: by the names that the tables use, task and options.
    longer: factors of the trained length that are tested too."""

    features: int
    layers: int
    heads: int
    dim: int
    width: int
    readout: tuple[int, int]
    batch: int
    lr: float
    steps: Mapping[str, int]
    tasks: Mapping[str, tuple[str, Mapping[str, Any]]]
    longer: tuple[int, ...] = (2, 4)


SCALES: dict[str, Scale] = {
    "quick": Scale(
        features=64,
        layers=2,
        heads=2,
        dim=8,
        width=32,
        readout=(1, 4),
        batch=32,
        lr=3e-3,
        steps={
            READOUT: 600,
            EVOLUTION: 900,
            "parity": 300,
            SCALING: 100,
            NORMALIZER: 400,
            SPECTRUM: 1000,
        },
        tasks={
            # this length has a place for every question and no other; a key among random fillers would change answers
            "mqar": ("mqar", {"vocabulary": 64, "length": 32, "pairs": 8, "fill": "zero"} | ENDLESS),
            "selective copying": ("selective_copying", {"length": 32, "copied": 8} | ENDLESS),
            "parity": ("parity", {"length": 16, "test_length": 32}),
            "words": ("s5", {"group": "S3", "length": 16, "test_length": 32}),
            "recall": ("recall", {"vocabulary": 32, "length": 32, "next_token": False} | ENDLESS),
            "delay line": ("delay", {"vocabulary": 8, "length": 32, "delay": 8}),
        },
    ),
    "paper": Scale(
        features=128,
        layers=2,
        heads=4,
        dim=16,
        width=32,
        readout=(1, 16),
        batch=128,
        lr=5e-4,
        steps={READOUT: 20_000, EVOLUTION: 50_000, SCALING: 20_000, NORMALIZER: 20_000, SPECTRUM: 20_000},
        tasks={
            "mqar": ("mqar", {"length": 512, "pairs": 64}),
            "selective copying": ("selective_copying", {}),
            "parity": ("parity", {}),
            "words": ("s5", {}),
            "recall": ("recall", {}),
            "delay line": ("delay", {}),
        },
    ),
}


def config_of(scale: Scale, table: str, data: str, spec: MixerSpec, seed: int, **changes: Any) -> RunConfig:
    task, options = scale.tasks[data]
    whole = asdict(TASKS[task].make("published", options).options)
    shared: dict[str, Any] = {name: getattr(scale, name) for name in ("features", "batch", "lr")}
    layers = (spec,) * scale.layers
    shared |= {"seed": seed, "steps": scale.steps.get(data, scale.steps[table])} | changes
    return RunConfig(spec.name, layers, task, whole, **shared)


def _length(scale: Scale, data: str) -> int:
    task, options = scale.tasks[data]
    return TASKS[task].make("published", options).options.length


def cell_of(table: str, data: str, config: RunConfig, **looks: Any) -> Cell:
    """What is looked at besides decides the stored result as the run's own settings do."""
    settings = {key: value for key, value in config.key.items() if key not in ("seed", "name")}

    def compute() -> dict[str, Any]:
        return observed(config, **looks)

    return Cell(table, data, config.name, config.seed, settings | looks, compute)


def readout(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    """phi, on recall and on selective copying; learned positions, which copying in order needs."""
    return [
        cell_of(READOUT, data, config_of(scale, READOUT, data, spec, seed, positions="learned"))
        for data in ("mqar", "selective copying")
        for spec in mixers.readouts(*scale.readout, scale.width).values()
        for seed in seeds
    ]


def evolution(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    """A_t, on state tracking, with and without positions. The test is twice as long as the training; learned positions
    beyond that length are never trained, so the trained length is tested as well."""
    found = []
    for data in ("parity", "words"):
        short = {"test_length": _length(scale, data)}
        for positions, said in POSITIONS.items():
            for name, spec in mixers.evolutions(scale.heads, scale.dim, scale.width).items():
                if positions == "rope":
                    if name in UNTURNED:
                        continue
                    spec = replace(spec, positions=part("rope"))
                spec = replace(spec, name=f"{name}, {said}")
                learned = "learned" if positions == "learned" else "none"
                for seed in seeds:
                    config = config_of(scale, EVOLUTION, data, spec, seed, positions=learned)
                    found.append(cell_of(EVOLUTION, data, config, longer=[short]))
    return found


def scaling(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    """b, as n grows. The gradient is not clipped; scores are measured before training."""
    return [
        cell_of(SCALING, f"n = {dim}", config_of(scale, SCALING, "mqar", spec, seed, clip=UNCLIPPED), sizes=True)
        for dim in DIMS
        for spec in mixers.scalings(scale.heads, dim, scale.width).values()
        for seed in seeds
    ]


def normalizer(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    """eta, at two learning rates, the gradient not clipped; tested at lengths beyond the trained one."""
    found = []
    longer = [{"length": factor * _length(scale, "recall")} for factor in scale.longer]
    for rate in RATES:
        for spec in mixers.normalizers(scale.heads, scale.dim, scale.width).values():
            for seed in seeds:
                config = config_of(scale, NORMALIZER, "recall", spec, seed, clip=UNCLIPPED, lr=rate)
                found.append(cell_of(NORMALIZER, f"rate {rate:g}", config, longer=longer))
    return found


def spectrum(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    """Trained spectra beside accuracy: see `statistic`, fixed before the runs that count. Recall for half the seeds."""
    return [
        cell_of(SPECTRUM, data, config_of(scale, SPECTRUM, data, spec, seed), inside=True)
        for data, some in (("delay line", list(seeds)), ("recall", list(seeds)[: (len(seeds) + 1) // 2]))
        for spec in mixers.spectra(scale.heads, scale.dim, scale.width).values()
        for seed in some
    ]


# table: title, seeds, cells
TABLES: dict[str, tuple[str, tuple[int, ...], Callable[[Scale, Sequence[int]], list[Cell]]]] = {
    READOUT: ("Which phi recalls and copies?", SEEDS, readout),
    EVOLUTION: ("Which A_t tracks a state, with and without positions?", SEEDS, evolution),
    SCALING: ("Which b trains as n grows?", SEEDS, scaling),
    NORMALIZER: ("Which eta is stable?", SEEDS, normalizer),
    SPECTRUM: ("Does a spectrum predict accuracy?", tuple(range(1, 7)), spectrum),
}


def cells(table: str) -> Callable[[str, Sequence[str], Sequence[int], str | None], list[Cell]]:
    """The cells of a table, as `study.Table` asks for them: nothing here reads a set or a folder."""
    make = TABLES[table][2]
    return lambda scale, sets, seeds, folder: make(SCALES[scale], seeds)
