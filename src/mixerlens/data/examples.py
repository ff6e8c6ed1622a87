"""The inputs that a model's folder carries, with their labels: what a saved classifier can be tried on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Examples", "examples"]

INPUTS, LABELS = "examples.npy", "labels.npy"


@dataclass(frozen=True)
class Examples:
    """inputs: (examples, time, channels). labels: (examples,), None where the folder has none of that length."""

    inputs: Float[np.ndarray, "examples time channels"]
    labels: Int[np.ndarray, " examples"] | None

    def label(self, example: int) -> int | None:
        return None if self.labels is None else int(self.labels[example])

    def find(self, inputs: Float[np.ndarray, "time channels"]) -> int | None:
        """The number of the example that these numbers are, to the bit; None where they are none."""
        if inputs.shape != self.inputs.shape[1:]:
            return None
        same = (self.inputs == inputs).all(axis=(1, 2)).nonzero()[0]
        return int(same[0]) if len(same) else None


def examples(folder: str | Path) -> Examples | None:
    """Those of a model's folder; None where it has no such file, or no floats (examples, time, channels) in it."""
    found = [_array(Path(folder).expanduser() / name) for name in (INPUTS, LABELS)]
    inputs, labels = found
    if inputs is None or inputs.ndim != 3 or inputs.dtype.kind != "f":
        return None
    fits = labels is not None and labels.shape == inputs.shape[:1] and labels.dtype.kind in "iu"
    return Examples(inputs, labels if fits else None)


def _array(path: Path) -> np.ndarray | None:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
