"""What a mixer must be given: named tensors, and where each comes from.

A signal is (batch, time, heads, *shape). Whoever trains a mixer makes one tensor for each signal of a specification -
a projection of the token, or a parameter - passes it through the signal, and hands all of them to ``assemble``; the
kinds of parts need not be known for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.design.functions import FUNCTIONS, VECTORS
from mixerlens.design.inits import Init
from mixerlens.design.transforms import FEATURES, NORMS
from mixerlens.design.values import bounded, choice, integer, mapping, number, unknown
from mixerlens.errors import InputError

SOURCES = ("projection", "parameter", "position", "constant")
CHANGES = ("source", "transform", "norm", "scale", "init", "function", "arguments", "heads")


@dataclass(frozen=True)
class Signal:
    """One tensor that a mixer is made of.

    name: how parts call it. shape: of one head and token, before ``transform``. heads: 1 where all heads share it.
    source: "projection" (a linear map of the token, with a bias where ``init`` says at which value it starts),
        "parameter" (learned, the same for every token), "position" (``function`` of the token's number) or "constant"
        (``function`` of the head).
    transform, norm, scale: value = scale * norm(transform(raw)), norm over the last axis. What a function gives is the
        value already.
    low, high: the values the equation allows, ends included.
    init: where values start; a parameter without one starts at its function.
    dynamics: whether ``assemble`` needs it; "value", "output_gate" and "skip" act outside.
    """

    name: str
    shape: tuple[int, ...] = ()
    heads: int = 1
    source: str = "projection"
    transform: str = "identity"
    norm: str = "none"
    scale: float = 1.0
    low: float = -math.inf
    high: float = math.inf
    init: Init | None = None
    function: str | None = None
    arguments: dict[str, float] = field(default_factory=dict)
    dynamics: bool = True
    says: str = ""

    @property
    def trained(self) -> bool:
        """Whether something learned stands behind it."""
        return self.source in ("projection", "parameter")

    @property
    def value_shape(self) -> tuple[int, ...]:
        """Trailing shape after the transform; feature maps may make more dimensions."""
        if not self.trained or not self.shape:
            return self.shape
        return (*self.shape[:-1], FEATURES[self.transform].size(self.shape[-1]))

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which numbers its values lie whatever was learned."""
        if self.norm == "l2":
            return -abs(self.scale), abs(self.scale)
        if self.norm == "rms":
            return -math.inf, math.inf
        if not self.trained:
            return self.low, self.high
        if self.norm == "sum":  # shares, where nothing is negative
            return (
                (min(0.0, self.scale), max(0.0, self.scale))
                if _range(self.transform)[0] >= 0
                else (-math.inf, math.inf)
            )
        low, high = (self.scale * x if self.scale else 0.0 for x in _range(self.transform))
        return min(low, high) + 0.0, max(low, high) + 0.0  # no -0

    def __call__(self, raw: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """The value of what was projected or learned, axes (..., *shape) -> (..., *value_shape)."""
        value = NORMS[self.norm](FEATURES[self.transform].apply(raw))
        return value if self.scale == 1 else value * self.scale

    def raw(self, value: Tensor) -> Tensor:
        """What gives this value; for transforms with an inverse. Raises InputError for the others."""
        inverse = FEATURES[self.transform].inverse
        if self.scale == 0:
            raise InputError(f"signal {self.name}: scale 0 leaves it no value to start at: choose another scale")
        if inverse is None or self.norm != "none":
            made = f"transform {self.transform}, norm {self.norm}, scale {self.scale:g}"
            raise InputError(f"signal {self.name}: {made} has no inverse, so it cannot start at a value: drop its init")
        raw = inverse(value / self.scale)
        if not bool(torch.isfinite(raw).all()):
            (low, high), told = self.bounds, "" if self.init is None else f" of {self.init.to_dict()}"
            where = f"lies outside ({low:g}, {high:g})"
            if bool(((value > low) & (value < high)).all()):
                where = f"is beyond all numbers before {self.transform} times {self.scale:g}"
            raise InputError(f"signal {self.name}: an initial value{told} {where}: choose another init or scale")
        return raw

    def initial(self, generator: torch.Generator | None = None) -> Float[Tensor, heads * shape] | None:
        """What a parameter, or the bias of a projection, starts at: float64; None: a projection without bias.

        Raises InputError for a parameter that has neither an init nor a function.
        """
        if self.init is not None:
            return self.raw(self.init.draw((self.heads, *self.shape), generator))
        if self.source == "projection":
            return None
        if self.function is None:
            raise InputError(f"signal {self.name}: a parameter needs an init: where shall it start?")
        return self.raw(self.at(0, 1)[0, 0].expand(self.heads, *self.shape).clone())

    def example(self, generator: torch.Generator, batch: int, time: int) -> Float[Tensor, "#batch #time heads *_"]:
        """Values as at the start of training, for seeded normal tokens; of what is trained."""
        lead = (batch, time) if self.source == "projection" else (1, 1)
        raw = self.initial(generator)
        noise = torch.randn(*lead, self.heads, *self.shape, dtype=torch.float64, generator=generator)
        return self(noise if raw is None else raw + noise * (self.source == "projection"))

    def at(self, start: int, stop: int, device: torch.device | str | None = None) -> Float[Tensor, "1 time heads *_"]:
        """The values of a position or constant for the tokens start <= t < stop: (1, time | 1, heads | 1, *shape)."""
        if self.function is None:
            raise InputError(f"signal {self.name} comes from a {self.source}: no function gives it")
        tokens = torch.arange(start, stop, device=device)
        if not self.shape and self.function in VECTORS:
            raise InputError(f"signal {self.name}: function {self.function} is a vector, the signal one number a head")
        found = FUNCTIONS[self.function].make(self.heads, self.shape, self._arguments, tokens)
        if found.shape[3:] != self.shape or found.shape[2] not in (1, self.heads):
            made = tuple(found.shape[2:])
            own = (self.heads, *self.shape)
            raise InputError(f"signal {self.name}: function {self.function} has shape {made} a token, the signal {own}")
        return found

    @property
    def _arguments(self) -> dict[str, Any]:
        known = FUNCTIONS[self.function].options if self.function else {}
        return {name: self.arguments.get(name, option.default) for name, option in known.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts; an end that is not finite is None."""
        low, high = (x if math.isfinite(x) else None for x in self.bounds)
        told: dict[str, Any] = {"shape": list(self.value_shape), "heads": self.heads, "source": self.source}
        told |= {"transform": self.transform, "norm": self.norm, "scale": self.scale} if self.trained else {}
        told |= {"function": self.function, "arguments": self._arguments} if self.function else {}
        told |= {"init": self.init.to_dict()} if self.init else {}
        return told | {"low": low, "high": high, "says": self.says}


def _range(name: str) -> tuple[float, float]:
    return FEATURES[name].low, FEATURES[name].high


def read_changes(field_name: str, given: Any) -> dict[str, dict[str, Any]]:
    """What a specification's ``signals`` says, checked: {name: {source, transform, norm, scale, init, ...}}."""
    changes = {}
    for name, change in mapping(field_name, given).items():
        where = f"{field_name}.{name}"
        change = mapping(where, change, CHANGES)
        checks = {
            "source": choice(*SOURCES),
            "transform": choice(*FEATURES),
            "norm": choice(*NORMS),
            "scale": number(),
            "heads": integer(),
            "function": choice(*FUNCTIONS),
            "init": lambda f, x: None if x is None else Init.read(f, x).to_dict(),
        }
        read = {key: checks[key](f"{where}.{key}", x) for key, x in change.items() if key in checks}
        if "arguments" in change:
            arguments = mapping(f"{where}.arguments", change["arguments"])
            read["arguments"] = {k: number()(f"{where}.arguments.{k}", x) for k, x in arguments.items()}
        changes[name] = read
    return changes


def collect(declared: Iterable[Signal], changes: dict[str, dict[str, Any]], heads: int) -> dict[str, Signal]:
    """The signals by name with the changes made. Two parts may share one; they must mean the same by it.

    Raises InputError for a changed signal that no part needs, for parts that disagree, and for a change that leaves
    the values the equation allows.
    """
    found: dict[str, Signal] = {}
    for signal in declared:
        other = found.get(signal.name, signal)
        found[signal.name] = replace(other, low=max(other.low, signal.low), high=min(other.high, signal.high))
        if other.shape != signal.shape:
            shapes = f"{other.shape} and {signal.shape}"
            raise InputError(f"signal {signal.name}: two parts need it with shapes {shapes}: change one of them")
    for name, change in changes.items():
        others = [n for n in found if n not in ("query", "key", "value")]
        if name in ("query", "key", "value"):
            raise InputError(f"signals.{name}: say it under {name!r}: source, features, norm, scale, heads")
        if not others:
            raise InputError(f"signals.{name}: the parts of this specification have no signals of their own: drop it")
        if name not in found:
            raise unknown("signals", name, others)
        found[name] = _changed(found[name], change)
    for signal in found.values():
        _check(signal, heads)
    return found


def _changed(signal: Signal, change: dict[str, Any]) -> Signal:
    given, change = change, dict(change)
    if change.get("init") is not None:
        change["init"] = Init.read(f"signals.{signal.name}.init", change["init"])
    if change.get("transform", signal.transform) != signal.transform:
        change.setdefault("scale", 1.0)
        change.setdefault("init", None)
    if change.get("source") == "parameter" and signal.source == "projection":
        change.setdefault("init", signal.init)
    if "function" in change:
        change.setdefault("source", "position" if FUNCTIONS[change["function"]].positional else "constant")
        change.setdefault("arguments", {})
    changed = replace(signal, **change)
    if changed.trained:
        return changed
    for name in ("transform", "norm", "scale"):
        if name in given:
            raise InputError(f"signals.{signal.name}.{name}: a {changed.source} is what its function gives: drop it")
    return replace(changed, transform="identity", norm="none", scale=1.0)


def _check(signal: Signal, heads: int) -> None:
    where = f"signal {signal.name}"
    if heads % signal.heads:
        raise InputError(f"{where}: {signal.heads} head groups do not divide {heads} heads")
    bounded(where, signal.heads * math.prod(signal.value_shape))
    if not signal.trained or (signal.source == "parameter" and signal.init is None):
        if signal.function is None:
            wanted = "an init or a function" if signal.source == "parameter" else "a function"
            raise InputError(f"{where}: a {signal.source} needs {wanted}, one of {', '.join(FUNCTIONS)}")
        if signal.function not in FUNCTIONS:
            raise unknown(f"{where}: function", signal.function, FUNCTIONS)
        known = FUNCTIONS[signal.function].options
        for name, x in mapping(f"{where}: arguments", signal.arguments, known).items():
            known[name].check(f"{where}: {name}", x)
        positional = FUNCTIONS[signal.function].positional
        if positional != (signal.source == "position"):
            wanted = "position" if positional else "constant or parameter"
            raise InputError(f"{where}: with function {signal.function} its source is {wanted}, not {signal.source}")
        signal.at(0, 1)
    if signal.trained and signal.value_shape != signal.shape and signal.name not in ("query", "key"):
        raise InputError(f"{where}: {signal.transform} changes the number of dimensions, which only query and key may")
    low, high = signal.bounds
    if low < signal.low or high > signal.high:
        raise InputError(
            f"{where}: values from {signal.low:g} to {signal.high:g} are allowed, {signal.transform} times "
            f"{signal.scale:g} gives {low:g} to {high:g}: choose another transform or scale"
        )
    if signal.trained and signal.init is not None:
        signal.raw(signal.init.draw((1, *signal.shape), torch.Generator().manual_seed(0)))
