"""|alpha| in big tiles that stay in the cache: ``walk`` for linear readouts, ``rows`` for all others."""

from mixerlens.operator.streams.rows import RowStream, row_streams, rows_fit
from mixerlens.operator.streams.skipping import Bounded, Missing, Skipping
from mixerlens.operator.streams.thin import ThinTile
from mixerlens.operator.streams.tile import TERMS, Places, Side, Tile
from mixerlens.operator.streams.walk import Stream, fits, padded, streams

__all__ = [
    "TERMS",
    "Bounded",
    "Missing",
    "Places",
    "RowStream",
    "Side",
    "Skipping",
    "Stream",
    "ThinTile",
    "Tile",
    "fits",
    "padded",
    "row_streams",
    "rows_fit",
    "streams",
]
