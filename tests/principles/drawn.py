"""Families on their example arguments, for the tests beside this file."""

from __future__ import annotations

from torch import Tensor

from mixerlens import CoefficientDynamics, families


def drawn(name: str, seed: int = 0) -> tuple[CoefficientDynamics, Tensor]:
    """A family's mixer and values, drawn by seed."""
    arguments = families.FAMILIES[name].arguments(seed)
    value = arguments.pop("value")
    d = families.FAMILIES[name].function(**arguments)
    assert isinstance(d, CoefficientDynamics)
    return d, value
