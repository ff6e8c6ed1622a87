"""The kinds of parts: for every slot of a specification a table of kinds. A new kind is one file and one row here."""

from __future__ import annotations

from mixerlens.design.parts.evolution import EVOLUTIONS
from mixerlens.design.parts.kind import Kind, Pieces, Sizes, options_of
from mixerlens.design.parts.normalizers import NORMALIZERS
from mixerlens.design.parts.outside import CONVOLUTIONS, GATES, OUTPUT_NORMS, SUPPORTS
from mixerlens.design.parts.positions import POSITIONS
from mixerlens.design.parts.readouts import READOUTS
from mixerlens.design.parts.scalings import SCALINGS
from mixerlens.design.parts.systems import SYSTEMS

SLOTS: dict[str, dict[str, Kind]] = {
    "evolution": EVOLUTIONS,
    "scaling": SCALINGS,
    "readout": READOUTS,
    "normalizer": NORMALIZERS,
    "system": SYSTEMS,
    "positions": POSITIONS,
    "support": SUPPORTS,
    "short_convolution": CONVOLUTIONS,
    "gate": GATES,
    "norm": OUTPUT_NORMS,
}

__all__ = ["SLOTS", "Kind", "Pieces", "Sizes", "options_of"]
