"""How many systems a mixer has, and how they are chained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mixerlens.composition import Mixer
from mixerlens.design.parts.kind import Kind, Options, table

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly
    from mixerlens.design.spec import MixerSpec


def _nothing(spec: MixerSpec) -> None:
    pass


def _same(spec: MixerSpec, dim: int) -> int:
    return dim


@dataclass(frozen=True)
class System(Kind):
    """check(spec): raises InputError for parts it cannot have. state(spec, dim): dimensions that the evolution acts on."""

    check: Callable[[MixerSpec], None] = _nothing
    state: Callable[[MixerSpec, int], int] = _same


def _single(a: Assembly, o: Options) -> Mixer:
    return a.dynamics(a.query, a.key)


SYSTEMS = table(System("single", "one system", _single))
