"""The examples import one another by name, as they do when they are run."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "examples"

if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))
