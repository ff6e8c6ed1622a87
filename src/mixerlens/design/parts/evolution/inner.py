"""An evolution inside another: one that moves the state and leaves query and key as they are."""

from __future__ import annotations

from mixerlens.design.parts.kind import PART, Options, Sizes
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option
from mixerlens.errors import InputError

INNER = {"inner": Option(PART, says="an evolution")}


def inner_signals(sizes: Sizes, o: Options) -> list[Signal]:
    """What the inner evolution needs. Raises InputError for a kind that does more than to move the state."""
    from mixerlens.design.parts.evolution import EVOLUTIONS

    inner = EVOLUTIONS[o["inner"].kind]
    if not inner.plain:
        plain = ", ".join(name for name, kind in EVOLUTIONS.items() if kind.plain)
        raise InputError(f"evolution.inner.kind: {inner.name} changes query and key too; inside another stand {plain}")
    return list(inner.signals(sizes, o["inner"].options))
