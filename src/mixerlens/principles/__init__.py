"""The six design principles of arXiv 2510.09389 as measurements on a mixer.

Each measure takes a ``CoefficientDynamics`` or a recorded mixer call and gives a ``Principle``: numbers a head with
labels and units, what they mean here, the theorem with its conditions, and the case against the textbook wording as
code that runs. Everything is computed in float64, and the same seed gives the same numbers.
"""

from mixerlens.principles.normalization import NormalizationPrinciple, lyapunov, normalization
from mixerlens.principles.readout import ReadoutPrinciple, readout
from mixerlens.principles.record import Condition, Counterexample, Principle
from mixerlens.principles.report import MEASURES, PrincipleReport, measure

__all__ = [
    "MEASURES",
    "Condition",
    "Counterexample",
    "NormalizationPrinciple",
    "Principle",
    "PrincipleReport",
    "ReadoutPrinciple",
    "lyapunov",
    "measure",
    "normalization",
    "readout",
]
