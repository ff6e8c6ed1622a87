"""The trained specimen and the inputs that ship with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def digits_s4d() -> Path:
    """Folder of the trained classifier: two blocks, GELU, GLU, no norm."""
    return Path(__file__).resolve().parents[2] / "specimens" / "digits-s4d"


@pytest.fixture(scope="session")
def digits(digits_s4d) -> torch.Tensor:
    """32 inputs (32, 64, 1) of its test part."""
    return torch.from_numpy(np.load(digits_s4d / "examples.npy"))
