"""A library that rounds to float32 inside, run without that rounding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Widened(TorchFunctionMode):
    """While it is entered, ``x.float()`` and every ``torch.float32`` that an operation is given mean float64.

    A model in float64 then computes in float64 throughout, whose result is what both paths approximate.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        named = {name: _wide(x) for name, x in (kwargs or {}).items()}
        return func(*map(_wide, args), **named)


def _wide(x: Any) -> Any:
    return torch.float64 if x is torch.float32 else x


def to_float64(x: Any) -> Any:
    """A floating tensor in float64; anything else as it is."""
    return x.detach().double() if isinstance(x, Tensor) and x.is_floating_point() else x
