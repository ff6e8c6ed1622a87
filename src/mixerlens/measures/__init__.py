"""Measures of a mixer: data objects with labels and units that save as JSON. Nothing here draws.

Every function takes a recorded mixer call or a ``CoefficientDynamics``, looks at one sequence of the batch
(``sequence``, default the first) and at every token of it; heads come first in what it returns.
"""

from mixerlens.measures.horizon import Horizon, horizon
from mixerlens.measures.rank import StateRank, state_rank
from mixerlens.measures.spectrum import Spectrum, spectrum

__all__ = ["Horizon", "Spectrum", "StateRank", "horizon", "spectrum", "state_rank"]
