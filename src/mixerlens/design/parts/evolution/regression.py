"""A_t = diag(1 - b_t k_t^2): each dimension forgets as much as it is written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mixerlens.design.parts.kind import Kind, Options, Pieces
from mixerlens.errors import InputError
from mixerlens.evolution import Diagonal
from mixerlens.shapes import spread, wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly
    from mixerlens.design.spec import MixerSpec


def _build(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    b, square = pieces.scaling, wide(pieces.key).square()
    assert b is not None
    heads = max(b.shape[2], square.shape[2])
    decay = 1 - spread(wide(b), heads, 2).unsqueeze(-1) * spread(square, heads, 2)
    return replace(pieces, evolution=Diagonal(decay=decay))


def _check(spec: MixerSpec) -> None:
    if spec.scaling.kind not in ("beta", "implicit", "step", "input_gate"):
        raise InputError(
            f"evolution diagonal_delta: scaling {spec.scaling.kind} must be beta, implicit, step or input_gate: "
            "what enters is what is forgotten"
        )


DIAGONAL_DELTA = Kind(
    "diagonal_delta",
    "A_t = diag(1 - b_t k_t^2), b the scaling: the delta rule with k k^T replaced by its diagonal",
    _build,
    check=_check,
)
