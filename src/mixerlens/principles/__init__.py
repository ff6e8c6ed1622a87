"""The six design principles of arXiv 2510.09389 as measurements on a mixer.

Each measure takes a ``CoefficientDynamics`` or a recorded mixer call and gives a ``Principle``: numbers a head with
labels and units, what they mean here, the theorem with its conditions, and the case against the textbook wording as
code that runs. Everything is computed in float64, and the same seed gives the same numbers.
"""

from mixerlens.principles import zeros
from mixerlens.principles.dsf import Dsf, dsf
from mixerlens.principles.eigenvalues import Eigenvalues, eigenvalues
from mixerlens.principles.model import MixerPrinciples, ModelPrinciples, of_family, of_model, of_spec
from mixerlens.principles.normalization import NormalizationPrinciple, lyapunov, normalization
from mixerlens.principles.position import PositionPrinciple, position
from mixerlens.principles.readout import ReadoutPrinciple, readout
from mixerlens.principles.record import Condition, Counterexample, Principle
from mixerlens.principles.report import MEASURES, PrincipleReport, measure
from mixerlens.principles.retention import Retention, retention
from mixerlens.principles.scaling import ScalingPrinciple, ScoreGrowth, scaling, score_growth
from mixerlens.principles.selectivity import SelectivityPrinciple, selectivity
from mixerlens.principles.structure import StructurePrinciple, structure

__all__ = [
    "MEASURES",
    "Condition",
    "Counterexample",
    "Dsf",
    "Eigenvalues",
    "MixerPrinciples",
    "ModelPrinciples",
    "NormalizationPrinciple",
    "PositionPrinciple",
    "Principle",
    "PrincipleReport",
    "ReadoutPrinciple",
    "Retention",
    "ScalingPrinciple",
    "ScoreGrowth",
    "SelectivityPrinciple",
    "StructurePrinciple",
    "dsf",
    "eigenvalues",
    "lyapunov",
    "measure",
    "normalization",
    "of_family",
    "of_model",
    "of_spec",
    "position",
    "readout",
    "retention",
    "scaling",
    "score_growth",
    "selectivity",
    "structure",
    "zeros",
]
