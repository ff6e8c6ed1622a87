"""What one token mixer was called with in one forward pass, in the words of `mixerlens.families`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixerlens.errors import InputError

if TYPE_CHECKING:
    from mixerlens.dynamics import CoefficientDynamics


@dataclass(frozen=True)
class LayerInfo:
    """One token mixer of a model: the layer's number, the module's path, its kind and the family it belongs to."""

    index: int
    path: str
    kind: str
    family: str


class _WhenRead:
    """A field, None by default, that may be given as a function without arguments: called when it is first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, call: Any, owner: type) -> Any:
        if call is None:
            return self
        value = vars(call)[self.name]
        if callable(value):
            value = vars(call)[self.name] = value()
        return value

    def __set__(self, call: Any, value: Any) -> None:
        vars(call)[self.name] = None if value is self else value  # itself: the default of the class


@dataclass(frozen=True, eq=False)
class MixerCall:
    """One call of one token mixer.  The mixer computed ``output = (alpha @ values + skip) * gate``.

    Where it went on from a state (a cache), what that state adds to alpha @ values is part of the sum; see `mixed`.

    path: the module's path, with ``#k`` for the k-th call (from 0) where a forward pass calls it more than once.
    arguments: exactly the keyword arguments of ``mixerlens.families.<family>``.
    values: (batch, time, heads | kv_heads, value_dim); output, skip, gate: (batch, time, heads, value_dim), the last
        two None where the mixer has none.
    initial_state: (batch, heads, dim, value_dim), the state before the first token, or None for zero.
    compute_dtype: the dtype the model ran in.
    cast_by: the library function that rounds to float32 inside, by its dotted name, or None.
    valid: bool (batch, time), False on padding; None without padding.
    """

    path: str
    layer: int
    kind: str
    family: str
    arguments: dict[str, Any] = field(repr=False)
    values: Tensor = field(repr=False)
    output: Tensor = field(repr=False)
    skip: Tensor | None = field(default=None, repr=False)
    gate: Tensor | None = field(default=_WhenRead(), repr=False)  # type: ignore[assignment]
    initial_state: Tensor | None = field(default=None, repr=False)
    compute_dtype: torch.dtype = torch.float32
    cast_by: str | None = None
    valid: Tensor | None = field(default=None, repr=False)

    @cached_property
    def dynamics(self) -> CoefficientDynamics:
        """The coefficient dynamics of this call, built once by its family."""
        from mixerlens import families

        return getattr(families, self.family)(**self.arguments)

    @property
    def title(self) -> str:
        """How the mixer is called in tables: by its family, a mixer of one's own by its specification's name."""
        return self.arguments["spec"].name if self.family == "designed" else self.family.replace("_", " ")

    def operator(self, head: int | None = None) -> Any:
        """The operator alpha of this call; ``head`` keeps a head axis of 1."""
        return self.dynamics.operator(head)

    def mixed(self) -> Tensor:
        """alpha @ values, with what the initial state adds: (batch, time, heads, value_dim)."""
        operator = self.operator()
        return operator @ self.values if self.initial_state is None else operator.apply(self.values, self.initial_state)

    def predict(self, mixed: Tensor) -> Tensor:
        """``(mixed + skip) * gate``: what the mixer returns for these mixed values (batch, time, heads, value_dim)."""
        if self.skip is not None:
            mixed = mixed + self.skip
        return mixed if self.gate is None else mixed * self.gate

    def to(self, dtype: torch.dtype) -> MixerCall:
        """The same call with every floating tensor in another dtype (complex ones in its complex partner)."""
        if not dtype.is_floating_point:
            raise InputError(f"a mixer call can be cast to a floating dtype, not to {dtype}")
        complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

        def cast(x: Any) -> Any:
            if isinstance(x, Tensor) and x.is_complex():
                return x.to(complex_dtype)
            return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

        tensors = {name: cast(getattr(self, name)) for name in ("values", "output", "skip", "gate", "initial_state")}
        return dataclasses.replace(self, arguments={k: cast(v) for k, v in self.arguments.items()}, **tensors)


class MixerCalls(dict[str, MixerCall]):
    """Mixer calls by path.  ``path#0`` is also found as ``path``; an unknown path names the ones there are."""

    def __init__(self, calls: Mapping[str, MixerCall] | None = None) -> None:
        super().__init__(calls or {})

    def __missing__(self, path: str) -> MixerCall:
        other = path.removesuffix("#0") if path.endswith("#0") else f"{path}#0"
        if other in self:
            return self[other]
        raise KeyError(f"no mixer {path!r} was recorded; there are: {', '.join(self) or 'none'}")
