"""The specimens' training script is a folder of plain modules: importable here as it is for itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SPECIMENS = Path(__file__).resolve().parents[2] / "specimens"
sys.path.insert(0, str(SPECIMENS / "train"))


@pytest.fixture(scope="session")
def specimens() -> Path:
    return SPECIMENS
