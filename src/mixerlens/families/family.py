"""One architecture of the registry: its function, seeded example arguments, and what a table says of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mixerlens.composition import Mixer
from mixerlens.errors import InputError
from mixerlens.families.draw import Draw


@dataclass(frozen=True)
class Family:
    """A row of the registry.

    name: unique, an identifier. title: as the literature writes it. function: plain tensors in, dynamics out.
    example: seeded arguments of ``function`` together with ``value``, in float64.
    evolution, key, readout, normalizer: A_t, "b_j k_j ; q_i", phi and eta as the table prints them.
    state: numbers a value channel, in terms of n = dim; recurrence: whether a fixed number suffices.
    source: where the definition stands. note: what a user must know. bar: relative error allowed in float64.
    reference: a plain recurrence with the keyword arguments of ``function`` and ``value``; by default the one in
    `mixerlens.references` that has the function's name.
    """

    name: str
    title: str
    function: Callable[..., Mixer]
    example: Callable[[Draw], dict[str, Any]]
    evolution: str
    key: str
    state: str
    source: str
    readout: str = "identity"
    normalizer: str = "1"
    recurrence: Literal["finite", "by lifting", "grows"] = "finite"
    note: str = ""
    bar: float = 1e-12
    reference: Callable[..., Any] | None = None

    def arguments(self, seed: int) -> dict[str, Any]:
        """The example's arguments and values for this seed."""
        return self.example(Draw(seed))

    @property
    def recurrence_by_hand(self) -> Callable[..., Any]:
        """The independent reference. Raises InputError where there is none."""
        from mixerlens import references

        if self.reference is not None:
            return self.reference
        found = references.REGISTRY.get(self.function.__name__)
        if found is None:
            raise InputError(f"family {self.name} has no reference: write {self.function.__name__} in references/")
        return found

    @property
    def takes_segments(self) -> bool:
        return "segments" in inspect.signature(self.function).parameters


FAMILIES: dict[str, Family] = {}


def register(*families: Family) -> None:
    """Add rows to the registry. Raises InputError for a name that is taken."""
    for family in families:
        if not family.name.isidentifier():
            raise InputError(f"family name {family.name!r} is no identifier")
        if FAMILIES.setdefault(family.name, family) is not family:
            raise InputError(f"a family named {family.name} is registered already: choose another name")
