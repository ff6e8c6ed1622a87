"""The peers' own functions, called with our cases' inputs. Their packages are imported when they are first needed."""

from __future__ import annotations

import sys
from pathlib import Path

# `make bench` installs here what the tests' environment does not need
_FOLDER = str(Path(sys.prefix) / "bench-peers")
if _FOLDER not in sys.path and Path(_FOLDER).is_dir():
    sys.path.append(_FOLDER)
