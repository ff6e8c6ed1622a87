"""The kinds of A_t, one file each. A kind implements ``step`` and inherits the rest (see base.Evolution)."""

from mixerlens.evolution.base import Carry, Evolution, Factors
from mixerlens.evolution.block import ReadBeforeWrite, Trapezoid
from mixerlens.evolution.delta import Delta
from mixerlens.evolution.dense import Dense
from mixerlens.evolution.diagonal import Diagonal
from mixerlens.evolution.fenwick import Fenwick
from mixerlens.evolution.identity import Identity
from mixerlens.evolution.micro_steps import MicroSteps
from mixerlens.evolution.momentum import Momentum
from mixerlens.evolution.rank_one import DiagonalPlusRankOne
from mixerlens.evolution.rotation import Rotation
from mixerlens.evolution.scalar import Scalar
from mixerlens.evolution.shift import Shift
from mixerlens.evolution.unipotent import Unipotent

__all__ = [
    "Carry",
    "Delta",
    "Dense",
    "Diagonal",
    "DiagonalPlusRankOne",
    "Evolution",
    "Factors",
    "Fenwick",
    "Identity",
    "MicroSteps",
    "Momentum",
    "ReadBeforeWrite",
    "Rotation",
    "Scalar",
    "Shift",
    "Trapezoid",
    "Unipotent",
]
