"""What every measure has in common: labels and units beside the numbers, and strict JSON."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class Record:
    """Base of the measures. ``labels`` says in one sentence what each field is, ``units`` in what it is counted."""

    labels: ClassVar[dict[str, str]] = {}
    units: ClassVar[dict[str, str]] = {}

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary; numbers JSON has not (NaN, infinity) are null."""
        raise NotImplementedError

    def _described(self, numbers: dict[str, Any]) -> dict[str, Any]:
        return {
            "measure": type(self).__name__,
            **{name: plain(value) for name, value in numbers.items()},
            "labels": {name: text for name, text in self.labels.items() if name in numbers},
            "units": {name: text for name, text in self.units.items() if name in numbers},
        }


def unit_of(trace: Any) -> str:
    """What a trace's positions are: tokens, or time steps where the model reads floats."""
    return "time step" if trace.inputs.is_floating_point() else "token"


def plain(value: Any) -> Any:
    """Tensors as nested lists, complex numbers as [real, imaginary], numbers that are not finite as None."""
    if isinstance(value, Tensor):
        return plain((torch.view_as_real(value.resolve_conj()) if value.is_complex() else value).tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def quantiles(values: Tensor, levels: tuple[float, ...] = QUANTILES) -> Tensor:
    """Quantiles along the last axis, NaN left out, infinities kept: (..., levels); NaN where nothing is left.

    Nearest rank: every quantile is one of the values, so that an infinite half-life cannot turn into NaN.
    """
    ordered = values.sort(-1).values  # NaN sorts last
    count = (~values.isnan()).sum(-1, keepdim=True)
    level = torch.tensor(levels, dtype=torch.float64, device=values.device)
    index = ((count - 1).clamp(min=0) * level).round().long()
    return ordered.gather(-1, index)
