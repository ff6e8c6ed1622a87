"""Makes ``example`` importable (of the report tests) for the browser tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))
