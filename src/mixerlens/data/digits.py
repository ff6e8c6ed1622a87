"""Handwritten digits as sequences: 8 x 8 pixels read row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import UnsupportedError

VALIDATION, TEST = 180, 360


@dataclass(frozen=True)
class Digits:
    """Sequences (digits, 64, 1) float32 in [0, 1] and labels (digits) int64, of a part of the split."""

    inputs: Float[Tensor, "digits 64 1"]
    labels: Int[Tensor, " digits"]


def digits(part: str) -> Digits:
    """One part, "train" (1257), "validation" (180) or "test" (360), of scikit-learn's 1,797 digits.

    The split is a fixed random one: writers are not known, so a writer may be in several parts. Needs scikit-learn,
    which carries the data (UCI "Optical Recognition of Handwritten Digits"). Raises UnsupportedError without it, or for
    another part.
    """
    if part not in ("train", "validation", "test"):
        raise UnsupportedError(f"the digits have the parts train, validation and test, not {part!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UnsupportedError("the digits come with scikit-learn: pip install scikit-learn") from error
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    bounds = {"test": (0, TEST), "validation": (TEST, TEST + VALIDATION), "train": (TEST + VALIDATION, len(labels))}
    chosen = order[slice(*bounds[part])]
    inputs = torch.from_numpy(pixels[chosen] / 16).to(torch.float32).unsqueeze(-1)
    return Digits(inputs, torch.from_numpy(labels[chosen]).to(torch.int64))
