"""The kinds of A_t a specification can name."""

from __future__ import annotations

from mixerlens.design.parts.evolution.bias import BIAS
from mixerlens.design.parts.evolution.blocks import READ_BEFORE_WRITE, TRAPEZOID
from mixerlens.design.parts.evolution.decaying import DIAGONAL, SCALAR
from mixerlens.design.parts.evolution.delta import DELTA
from mixerlens.design.parts.evolution.matrices import BILINEAR, DENSE, OSCILLATOR
from mixerlens.design.parts.evolution.momentum import MOMENTUM
from mixerlens.design.parts.evolution.oblique import OBLIQUE
from mixerlens.design.parts.evolution.registers import FENWICK, REGISTER, WINDOW
from mixerlens.design.parts.evolution.regression import DIAGONAL_DELTA
from mixerlens.design.parts.evolution.rotation import ROTATION
from mixerlens.design.parts.evolution.several import DELTA_PRODUCT, WRITES
from mixerlens.design.parts.evolution.still import IDENTITY
from mixerlens.design.parts.kind import table

EVOLUTIONS = table(
    IDENTITY,
    SCALAR,
    DIAGONAL,
    ROTATION,
    DELTA,
    OBLIQUE,
    DELTA_PRODUCT,
    WRITES,
    DIAGONAL_DELTA,
    MOMENTUM,
    BIAS,
    READ_BEFORE_WRITE,
    TRAPEZOID,
    REGISTER,
    WINDOW,
    FENWICK,
    DENSE,
    OSCILLATOR,
    BILINEAR,
)
