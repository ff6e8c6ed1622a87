"""Where a trained number starts: distributions of values, after the transform, as the literature draws them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixerlens.design.values import REQUIRED, Option, mapping, number, unknown
from mixerlens.errors import InputError

Draw = Callable[[tuple[int, ...], torch.Generator | None, dict[str, float]], Tensor]


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=generator)


def _ring(shape: tuple[int, ...], generator: torch.Generator | None, o: dict[str, float]) -> Tensor:
    """log |lambda| for eigenvalues spread evenly over the ring low <= |lambda| <= high (arXiv 2303.06349)."""
    return torch.log(_uniform(shape, generator, o["low"] ** 2, o["high"] ** 2)) / 2


def _count(shape: tuple[int, ...], generator: torch.Generator | None, o: dict[str, float]) -> Tensor:
    """first, first + step, ... along the last axis: -1, -2, ... of Mamba-1, pi n of S4D."""
    line = o["first"] + o["step"] * torch.arange(shape[-1] if shape else 1, dtype=torch.float64)
    return line.expand(shape).clone() if shape else line[0]


def _log_uniform(shape: tuple[int, ...], generator: torch.Generator | None, o: dict[str, float]) -> Tensor:
    low, high = math.log(abs(o["low"])), math.log(abs(o["high"]))
    return math.copysign(1, o["high"]) * torch.exp(_uniform(shape, generator, low, high))


_LOW_HIGH = {"low": Option(number()), "high": Option(number())}
INITS: dict[str, tuple[Draw, dict[str, Option]]] = {
    "constant": (
        lambda shape, generator, o: torch.full(shape, o["value"], dtype=torch.float64),
        {"value": Option(number())},
    ),
    "uniform": (lambda shape, generator, o: _uniform(shape, generator, o["low"], o["high"]), _LOW_HIGH),
    "log_uniform": (_log_uniform, _LOW_HIGH),
    "normal": (
        lambda shape, generator, o: (
            o["mean"] + o["deviation"] * torch.randn(shape, dtype=torch.float64, generator=generator)
        ),
        {"mean": Option(number(), 0.0), "deviation": Option(number(0), 1.0)},
    ),
    "count": (_count, {"first": Option(number(), 1.0), "step": Option(number(), 1.0)}),
    "ring": (_ring, {"low": Option(number(0, 1)), "high": Option(number(0, 1))}),
}


@dataclass(frozen=True)
class Init:
    """A distribution of initial values: kind, and its numbers.

    constant {value}; uniform {low, high}; log_uniform {low, high}, of one sign; normal {mean, deviation}; count {first,
    step}, along the last axis; ring {low, high}, the logarithm of a radius. Raises InputError for unknown kinds and
    numbers that do not fit.
    """

    kind: str
    options: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def read(where: str, given: Any) -> Init:
        """From a mapping {kind: ..., ...}."""
        given = mapping(where, given)
        kind = given.pop("kind", None)
        if kind is None:
            raise InputError(f"{where}.kind is missing: give one of {', '.join(sorted(INITS))}")
        if not isinstance(kind, str) or kind not in INITS:
            raise unknown(f"{where}.kind", kind, INITS)
        known = INITS[kind][1]
        given = mapping(where, given, known)
        options = {}
        for name, option in known.items():
            if name not in given and option.default is REQUIRED:
                raise InputError(f"{where}: {kind} needs {', '.join(known)}: {name} is missing")
            options[name] = option.check(f"{where}.{name}", given.get(name, option.default))
        low, high = options.get("low", 0.0), options.get("high", 0.0)
        if kind == "log_uniform" and (low * high <= 0):
            raise InputError(f"{where}: log_uniform from {low:g} to {high:g}: two numbers of one sign, not 0")
        return Init(kind, options)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Values, float64."""
        return INITS[self.kind][0](shape, generator, self.options)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.options}


def constant(value: float) -> Init:
    """One number."""
    return Init("constant", {"value": value})


def log_uniform(low: float, high: float) -> Init:
    """Evenly spread in the logarithm: steps dt of state space models."""
    return Init("log_uniform", {"low": low, "high": high})


def uniform(low: float, high: float) -> Init:
    """Evenly spread."""
    return Init("uniform", {"low": low, "high": high})


def normal(deviation: float = 1.0) -> Init:
    """Normal numbers around 0."""
    return Init("normal", {"mean": 0.0, "deviation": deviation})


def count(first: float = 1.0, step: float = 1.0) -> Init:
    """first, first + step, ... along the last axis."""
    return Init("count", {"first": first, "step": step})
