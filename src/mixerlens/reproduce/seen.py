"""The table "orders": what each order of a decoder can see, without any training.

Two classes of sequences, both of mean zero and of energy one: AR(1) noise with phi = +0.3 and with phi = -0.3. Random
S4D-Lin systems, x = k * u + D u, are averaged over time order by order,

    order 1          mean_t x_t                                  linear in u
    order 2, i = j   mean_t sum_i T_ti^2 u_i^2                   energies
    order 2, i != j  mean_t sum_{i != j} T_ti T_tj u_i u_j       interactions of waves launched at different times

and a ridge classifier reads one of them. The second task, white noise of mean +0.5 or -0.5, is the contrast: there
order 1 is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..models.s4d_layer import S4D, causal_convolution
from .intervals import wilson
from .store import Cell

__all__ = ["FEATURES", "TASKS", "Sizes", "cells", "draw", "features", "ridge"]

TABLE = "orders"
FEATURES = ("order 1", "order 2, i = j", "order 2, i != j")
TASKS = {"autocorrelation": "AR(1), phi = +0.3 or -0.3, mean 0, energy 1", "mean": "white noise of mean +0.5 or -0.5"}
PHI, SHIFT = 0.3, 0.5


@dataclass(frozen=True)
class Sizes:
    """time steps; sequences to learn from and to test on, half of each class; random systems; ridge penalty."""

    time: int = 128
    train: int = 500
    test: int = 500
    systems: int = 48
    modes: int = 32
    penalty: float = 1e-2


def draw(task: str, count: int, time: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Sequences (count, time, 1) float64 and labels 0, 1, 0, 1, ..."""
    labels = np.arange(count) % 2
    noise = generator.standard_normal((count, time))
    if task == "mean":
        u = noise + SHIFT * (2 * labels[:, None] - 1)
    else:
        phi = PHI * (1 - 2 * labels)
        u = noise.copy()
        u[:, 0] /= np.sqrt(1 - PHI * PHI)  # stationary from the start
        for t in range(1, time):
            u[:, t] += phi * u[:, t - 1]
        u -= u.mean(1, keepdims=True)
        u /= np.sqrt(np.square(u).mean(1, keepdims=True))
    return torch.from_numpy(u)[..., None], torch.from_numpy(labels)


def features(
    kernel: Float[Tensor, "systems time"], skip: Float[Tensor, " systems"], u: Float[Tensor, "sequences time 1"]
) -> dict[str, Float[Tensor, "sequences systems"]]:
    """The mean over time of each order of every system, the second one split into i = j and i != j."""
    whole = kernel.clone()
    whole[:, 0] += skip
    wide = u.expand(-1, -1, len(kernel))
    x = causal_convolution(whole, wide)
    equal = causal_convolution(whole.square(), wide.square()).mean(1)
    return dict(zip(FEATURES, (x.mean(1), equal, x.square().mean(1) - equal), strict=True))


def ridge(
    train: Float[Tensor, "sequences numbers"], labels: Tensor, test: Float[Tensor, "sequences numbers"], penalty: float
) -> Tensor:
    """Labels 0 or 1 of the test rows by ridge regression on standardised features; penalty: a row's share."""
    mean, spread = train.mean(0), train.std(0).clamp(min=1e-12)
    a, b = (train - mean) / spread, (test - mean) / spread
    y = 2.0 * labels.to(a) - 1
    gram = a.T @ a / len(a) + penalty * torch.eye(a.shape[1], dtype=a.dtype)
    return (b @ torch.linalg.solve(gram, a.T @ (y - y.mean()) / len(a)) + y.mean() > 0).long()


def cells(seeds: Sequence[int], sizes: Sizes | None = None) -> list[Cell]:
    """A cell a task and seed: systems, sequences and readers of all three features."""
    sizes = sizes or Sizes()
    settings = {**asdict(sizes), "phi": PHI, "shift": SHIFT}
    return [
        Cell(TABLE, task, "random S4D-Lin", seed, settings, _cell(task, seed, sizes))
        for task in TASKS
        for seed in seeds
    ]


def _cell(task: str, seed: int, sizes: Sizes):
    def compute() -> dict[str, Any]:
        generator = np.random.default_rng([seed, list(TASKS).index(task)])
        train, labels = draw(task, sizes.train, sizes.time, generator)
        test, truth = draw(task, sizes.test, sizes.time, generator)
        torch.manual_seed(seed)
        system = S4D(sizes.systems, sizes.modes).double().requires_grad_(False)
        kernel = system.kernel(sizes.time)
        ours, theirs = (features(kernel, system.D, u) for u in (train, test))
        found = {}
        for name in FEATURES:
            correct = int((ridge(ours[name], labels, theirs[name], sizes.penalty) == truth).sum())
            found[name] = {
                "correct": correct,
                "total": len(truth),
                "accuracy": correct / len(truth),
                "interval": wilson(correct, len(truth)),
            }
        return found

    return compute
