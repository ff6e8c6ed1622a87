"""|alpha| of linear readouts in big tiles that stay in the cache; see ``walk``."""

from mixerlens.operator.streams.flush import subnormals_as_zero
from mixerlens.operator.streams.skipping import Bounded, Missing, Skipping
from mixerlens.operator.streams.tile import TERMS, Places, Tile
from mixerlens.operator.streams.walk import Stream, fits, padded, streams

__all__ = [
    "TERMS", "Bounded", "Missing", "Places", "Skipping", "Stream", "Tile", "fits", "padded", "streams",
    "subnormals_as_zero",
]  # fmt: skip
