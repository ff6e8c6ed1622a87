"""The kinds of A_t a specification can name."""

from __future__ import annotations

from mixerlens.design.parts.evolution.bias import BIAS
from mixerlens.design.parts.evolution.decaying import DIAGONAL, SCALAR
from mixerlens.design.parts.evolution.delta import DELTA
from mixerlens.design.parts.evolution.rotation import ROTATION
from mixerlens.design.parts.evolution.still import IDENTITY
from mixerlens.design.parts.kind import table

EVOLUTIONS = table(IDENTITY, SCALAR, DIAGONAL, ROTATION, DELTA, BIAS)
