"""A_t adds a number to every score that passes token t: ALiBi, the forgetting transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.families.attention import with_bias
from mixerlens.shapes import spread

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def _signals(sizes: Sizes, o: Options) -> list[Signal]:
    says = "what token t adds to every score between tokens on its two sides"
    return [Signal("offset", (), sizes.heads, "constant", function="alibi", says=says)]


def _build(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    written = pieces.written
    if pieces.scaling is not None:  # b scales the key and not the bias
        heads = max(written.shape[2], pieces.scaling.shape[2])
        written = spread(written, heads, 2) * spread(pieces.scaling, heads, 2).unsqueeze(-1)
    query, written, evolution = with_bias(pieces.query, written, a["offset"])
    return Pieces(query, pieces.key, written, None, evolution)


BIAS = Kind(
    "bias",
    "scores q^T k + sum of offset_t over the tokens t between: a unipotent block on (k, 0, 1) ; (q, 1, 0)",
    _build,
    {},
    _signals,
)
