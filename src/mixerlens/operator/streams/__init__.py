"""|alpha| of linear readouts in big tiles that stay in the cache; see ``walk``."""

from mixerlens.operator.streams.walk import Stream, fits, padded, streams

__all__ = ["Stream", "fits", "padded", "streams"]
