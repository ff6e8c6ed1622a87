"""All cases by name. A new one is a `Case` in a module that is named here."""

from __future__ import annotations

from bench.case import Case
from bench.cases import accelerated, attention, delta, explicit, growth, long, mamba1, mamba2, overhead, s4d

_PARTS = (mamba1, mamba2, delta, s4d, attention, explicit, long, growth, accelerated, overhead)

CASES: dict[str, Case] = {case.name: case for part in _PARTS for case in part.CASES}
