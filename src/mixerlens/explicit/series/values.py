"""The function a series stands for: a decoder's activation, or a gate that is none."""

from __future__ import annotations

import torch

from ..activations import ACTIVATIONS, Pointwise
from .analytic import analytic

__all__ = ["values_of"]

_GATES: dict[str, Pointwise] = {"sigmoid": torch.sigmoid, "softplus": torch.nn.functional.softplus}


def values_of(name: str) -> Pointwise:
    """The named function on tensors. Raises InputError, with the names there are, for an unknown one."""
    analytic(name)
    return _GATES.get(name) or ACTIVATIONS[name]
