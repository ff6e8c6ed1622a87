"""Heat maps for the page: pooled, stored in 8 bits a cell, compressed.

A cell's value v is stored as a code c with v = max * (|c| / top)**3, sign kept (top 127) or none (top 255): fine where
values are small, and the page can state the error of every number it shows.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.readout import Relu, Sigmoid

POWER = 3
COARSEST = 200  # cells a side: levels are halved down to this, so that no screen has to leave cells out
THUMBNAIL = 32
COLOUR_QUANTILE = 0.995
FINEST = 2048
BYTES_A_CELL = 0.9 * 4 / 3 * 4 / 3  # incompressible codes, in base64, with all coarser levels


@dataclass(frozen=True)
class Pooled:
    """values (pixels, pixels): means over the cells; edges (pixels + 1,): the tokens where cells begin."""

    values: NDArray[np.float64]
    edges: NDArray[np.int64]

    @property
    def side(self) -> int:
        """Tokens a side of the largest cell."""
        return int(np.diff(self.edges).max())

    def coarser(self, group: int) -> Pooled:
        """Cells joined group by group: means weighted by the pairs each holds."""
        if group <= 1:
            return self
        starts = np.arange(0, len(self.edges) - 1, group)
        size = np.diff(self.edges)
        total = np.add.reduceat(np.add.reduceat(self.values * np.outer(size, size), starts, 0), starts, 1)
        joined = np.add.reduceat(size, starts)
        return Pooled(total / np.outer(joined, joined), np.append(self.edges[starts], self.edges[-1]))


def finest_pixels(time: int, heads: int, causal: bool, budget: int) -> int:
    """Cells a side so that all heads' maps fit ``budget`` bytes of the page, whatever they hold."""
    cells = budget / max(1, heads) / BYTES_A_CELL * (2 if causal else 1)
    most = max(THUMBNAIL, min(FINEST, int(math.sqrt(cells))))
    side = -(-time // most)
    return -(-time // side)


def is_signed(d: CoefficientDynamics) -> bool:
    """Whether coefficients can be negative; complex ones are shown by magnitude."""
    if d.readout.exponential or isinstance(d.readout, (Relu, Sigmoid)):
        return False
    return not (d.dtype.is_complex and d.readout(d.query.new_zeros(1).to(d.dtype)).is_complex())


def pooled_maps(d: CoefficientDynamics, pixels: int) -> list[Pooled]:
    """One map a head of a single sequence: means of alpha where signed, else of |alpha|."""
    values = d.operator().heatmap(pixels, signed=is_signed(d))[0].double().cpu().numpy()
    edges = np.arange(pixels + 1) * d.time // pixels
    return [Pooled(v, edges) for v in values]


def levels(finest: Pooled, signed: bool) -> dict[str, Any]:
    """The picture's data: levels from coarse to fine, each half of the next, on one scale."""
    kept = [finest]
    while len(kept[0].values) > COARSEST:
        kept.insert(0, kept[0].coarser(2))
    most = max(float(np.abs(level.values).max()) for level in kept)
    return {
        "signed": signed,
        "max": most,
        "top": colour_end(finest.values, most),
        "levels": [
            {
                "pixels": len(level.values),
                "side": level.side,
                "edges": level.edges.tolist(),
                "data": _text(zlib.compress(encode(level.values, most, signed).tobytes(), 9)),
            }
            for level in kept
        ],
    }


def thumbnail(finest: Pooled, signed: bool) -> dict[str, Any]:
    """A small map on its own scale."""
    small = finest.coarser(-(-len(finest.values) // THUMBNAIL))
    most = float(np.abs(small.values).max())
    return {
        "pixels": len(small.values),
        "signed": signed,
        "max": most,
        "top": colour_end(small.values, most),
        "data": _text(encode(small.values, most, signed).tobytes()),
    }


def colour_end(values: NDArray[np.float64], most: float) -> float:
    """Where the colours end: the largest cell, or the 99.5 % quantile of those that are not zero if it is far below.

    Softmax gives the first row one coefficient of 1 whatever the model does; it should not darken all others.
    """
    size = np.abs(values[values != 0])
    if not len(size):
        return most
    high = float(np.quantile(size, COLOUR_QUANTILE))
    return high if 2 * high < most else most


def encode(values: NDArray[np.float64], most: float, signed: bool) -> NDArray[np.int8] | NDArray[np.uint8]:
    """The 8-bit codes of the cells."""
    top = 127 if signed else 255
    size = np.abs(values) / most if most > 0 else np.zeros_like(values)
    codes = np.rint(top * size ** (1 / POWER))
    return (np.sign(values) * codes).astype(np.int8) if signed else codes.astype(np.uint8)


def decode(codes: NDArray[Any], most: float, signed: bool) -> NDArray[np.float64]:
    """What the page makes of the codes."""
    part = codes.astype(np.float64) / (127 if signed else 255)
    return np.sign(part) * most * np.abs(part) ** POWER


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
