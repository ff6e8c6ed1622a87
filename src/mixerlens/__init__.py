"""mixerlens: open a trained sequence model, prove what its mixers compute, and show it.

Shapes are (batch, time, heads, dim), and so are summaries with one entry a row: row_mass, mean_distance, top_k. Parts
of the matrix alpha are (batch, heads, rows, columns): to_dense, block, row, column, heatmap. log_decay <= 0. Scales are
explicit and 1 unless given; softmax attention's is 1 / sqrt(dim).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixerlens import errors, evolution, families, normalizer, readout, support
from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.operator import CoefficientOperator, SumOperator, oracle, oracle_coefficients

if TYPE_CHECKING:
    from mixerlens import design, explicit, measures, principles, report, ring, scans, sweep, tasks
    from mixerlens.accelerate import accelerate
    from mixerlens.capture import Lens, MixerCall, Trace, open
    from mixerlens.membership import membership
    from mixerlens.verify import Certificate, Check

__version__ = "0.1.0"

# resolved on first use, so that `import mixerlens` costs little beyond torch
_LAZY = {
    "accelerate": "mixerlens.accelerate",
    "open": "mixerlens.capture",
    "Lens": "mixerlens.capture",
    "MixerCall": "mixerlens.capture",
    "Trace": "mixerlens.capture",
    "Certificate": "mixerlens.verify",
    "Check": "mixerlens.verify",
    "design": "mixerlens.design",
    "explicit": "mixerlens.explicit",
    "measures": "mixerlens.measures",
    "membership": "mixerlens.membership",
    "principles": "mixerlens.principles",
    "report": "mixerlens.report",
    "ring": "mixerlens.ring",
    "scans": "mixerlens.scans",
    "sweep": "mixerlens.sweep",
    "tasks": "mixerlens.tasks",
}

__all__ = [
    "Certificate",
    "Check",
    "CoefficientDynamics",
    "CoefficientOperator",
    "CoefficientSum",
    "Lens",
    "MixerCall",
    "SumOperator",
    "Trace",
    "accelerate",
    "design",
    "errors",
    "evolution",
    "explicit",
    "families",
    "measures",
    "membership",
    "normalizer",
    "open",
    "oracle",
    "oracle_coefficients",
    "principles",
    "readout",
    "report",
    "ring",
    "scans",
    "support",
    "sweep",
    "tasks",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mixerlens' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(_LAZY[name])
    return module if _LAZY[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
