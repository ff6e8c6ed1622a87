"""A_t = I."""

from __future__ import annotations

from mixerlens.design.parts.kind import Kind, Options, Pieces


def _build(a: object, options: Options, pieces: Pieces) -> Pieces:
    return pieces


IDENTITY = Kind("identity", "A_t = I: nothing is forgotten, positions are not seen", _build, plain=True)
