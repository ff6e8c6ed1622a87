"""A tiny set that is drawn, small enough to train on in a second."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixerlens.data.sequences import DataSet, from_series


def drawn(seed: int = 0, time: int = 24) -> DataSet:
    """Two classes that differ in autocorrelation alone: neighbouring steps alike, or of opposite sign."""
    generator = np.random.default_rng(seed)

    def part(count: int):
        labels = ["same" if i % 2 else "opposite" for i in range(count)]
        series = []
        for label in labels:
            noise = generator.normal(size=(1, time + 1))
            both = noise[:, 1:] + (1 if label == "same" else -1) * noise[:, :-1]
            series.append(both - both.mean())
        return series, labels

    return from_series("tiny", "A tiny set", "drawn", part(60), part(40))


@pytest.fixture(scope="session")
def tiny() -> DataSet:
    torch.set_num_threads(1)
    return drawn()
