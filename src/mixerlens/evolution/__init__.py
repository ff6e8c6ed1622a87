"""The kinds of A_t, one file each. A kind implements ``step`` and inherits the rest (see base.Evolution)."""

from mixerlens.evolution.base import Carry, Evolution, Factors
from mixerlens.evolution.delta import Delta
from mixerlens.evolution.dense import Dense
from mixerlens.evolution.diagonal import Diagonal
from mixerlens.evolution.identity import Identity
from mixerlens.evolution.rotation import Rotation
from mixerlens.evolution.scalar import Scalar
from mixerlens.evolution.unipotent import Unipotent

__all__ = [
    "Carry",
    "Delta",
    "Dense",
    "Diagonal",
    "Evolution",
    "Factors",
    "Identity",
    "Rotation",
    "Scalar",
    "Unipotent",
]
