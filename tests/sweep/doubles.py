"""Specifications and runs that take no time, for everything about a sweep but the training itself."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixerlens.design import Part, part
from mixerlens.errors import UnsupportedError
from mixerlens.sweep import RunConfig, RunResult


@dataclass(frozen=True)
class Spec:
    """What a run's configuration needs of a specification."""

    name: str
    dim: int = 8

    @property
    def support(self) -> Part:
        return part("causal")

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "dim": self.dim}


def config(name: str = "one", task: str = "recall", **options: Any) -> RunConfig:
    return RunConfig(name, (Spec(name),) * 2, task, **{"options": {"length": 16}, **options})  # type: ignore[arg-type]


def configs(count: int = 4, **options: Any) -> list[RunConfig]:
    return [config(seed=seed, **options) for seed in range(count)]


def result(config: RunConfig, **changed: Any) -> RunResult:
    """Numbers that only the configuration decides."""
    number = int(config.id[:4], 16)
    found: dict[str, Any] = {
        "status": "finished",
        "reason": None,
        "steps_done": config.steps,
        "best_step": config.steps,
        "train_loss": 1 / (1 + number),
        "validation_loss": 0.5,
        "validation_correct": number % 100,
        "validation_total": 100,
        "test_loss": 0.25,
        "test_correct": number % 200,
        "test_total": 200,
        "test_sequences": 200,
        "test_squares": 0.0,
        "chance": 0.1,
        "parameters": 10,
        "state_bytes": None,
        "history": ({"step": 1, "loss": 0.5, "correct": 1, "total": 100},),
        "versions": {"python": "3"},
        "seconds": 0.01,
        "cpu_seconds": 0.01,
    }
    return RunResult(**(found | changed))


def quick(config: RunConfig) -> RunResult:
    return result(config)


def odd_seeds_fail(config: RunConfig) -> RunResult:
    if config.seed % 2:
        raise UnsupportedError(f"seed {config.seed} is odd")
    return result(config)


def dies(config: RunConfig) -> RunResult:
    """Its process is killed the first time a run of seed 1 is tried, and every time one of seed 2 is. The task's
    options name the folder of marks, one a try."""
    marks = Path(config.options["marks"])
    number = len(list(marks.glob(f"{config.seed}-*")))
    (marks / f"{config.seed}-{number}").write_text(str(os.getpid()))
    if config.seed == 2 or (config.seed, number) == (1, 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return result(config)
