"""A mixer of one's own: what a specification and its signals say, by the name under which captured calls ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mixerlens.composition import Mixer

if TYPE_CHECKING:
    from mixerlens.design.spec import MixerSpec

__all__ = ["designed"]


def designed(spec: MixerSpec, length: int, **signals: Tensor) -> Mixer:
    """The dynamics of ``length`` tokens of a specification: see `mixerlens.design.assemble`, whose errors it raises."""
    from mixerlens.design import assemble

    return assemble(spec, signals, length=length)
