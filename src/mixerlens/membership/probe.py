"""The mixer under test, called in one place: with what it is given, and with what is asked of its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.membership.ranks import Bars
from mixerlens.shapes import tile, wide

DOUBLES = (torch.float64, torch.complex128)
LEAST = 8  # tokens


@dataclass
class Probe:
    """mixer(query, key, value, **fixed) with query, key and fixed held unless a test says otherwise.

    precision: the relative rounding of the mixer; a test that measures a larger one raises it, and every bar with it.
    """

    mixer: Callable[..., Any]
    query: Tensor
    key: Tensor
    width: int
    heads: int
    seed: int = 0
    fixed: dict[str, Any] = field(default_factory=dict)
    precision: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.mixer):
            raise InputError(
                f"the mixer is a {type(self.mixer).__name__}: give a callable (query, key, value, ...) -> y"
            )
        for name, x in (("query", self.query), ("key", self.key)):
            if not isinstance(x, Tensor) or x.dim() < 3:
                got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
                raise InputError(f"{name} must be a tensor (batch, time, ...) of at least three axes, got {got}")
            if x.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
                raise InputError(f"{name} is {x.dtype}: use float64, or float32 where the mixer needs it")
            if not bool(torch.isfinite(x).all()):
                raise InputError(f"{name} is not finite everywhere: every test would be about that")
        if self.query.shape[:2] != self.key.shape[:2]:
            got = f"{tuple(self.query.shape)} and {tuple(self.key.shape)}"
            raise InputError(f"query and key must share batch and time, got {got}")
        if self.time < LEAST:
            raise InputError(f"{self.time} tokens show too little: give at least {LEAST}, better 4 a number of state")
        if self.width < 1 or self.heads < 1:
            raise InputError(f"value_dim is {self.width} and heads is {self.heads}: both must be at least 1")
        self.query, self.key = self.query.detach(), self.key.detach()
        self.precision = max(self.precision, torch.finfo(self.query.dtype).eps)
        self._width: int | None = None  # channels a call in `coefficients`
        self._generator = torch.Generator().manual_seed(self.seed)

    @property
    def batch(self) -> int:
        return self.query.shape[0]

    @property
    def time(self) -> int:
        return self.query.shape[1]

    @property
    def exact(self) -> float:
        """Up to here a relative difference is rounding."""
        return 4096 * self.precision

    @property
    def clear(self) -> float:
        """From here on a relative difference is none."""
        return max(1e-6, 2**16 * self.precision)

    @property
    def ranks(self) -> Bars:
        """The bars of a rank."""
        return Bars(max(1e-10, 1024 * self.precision), 1e-4 if self.precision < 1e-10 else 1e-2, 8 * self.precision)

    def normal(self, *shape: int) -> Tensor:
        """Seeded standard normal numbers of the mixer's real dtype."""
        x = torch.randn(*shape, dtype=torch.float64, generator=self._generator)
        return x.to(self.query.device, self.query.dtype.to_real())

    def tokens(self, count: int) -> list[int]:
        """Seeded different tokens, at most as many as there are."""
        return torch.randperm(self.time, generator=self._generator)[:count].tolist()

    def values(self) -> Tensor:
        """Standard normal values (batch, time, heads, value_dim)."""
        return self.normal(self.batch, self.time, self.heads, self.width)

    def __call__(self, value: Tensor, query: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        """y (batch, time, heads, value_dim). Raises InputError where the mixer raises, or returns anything else."""
        query, key = (self.query if query is None else query), (self.key if key is None else key)
        try:
            y = self.mixer(query, key, value, **self.fixed)
        except Exception as error:
            said = str(error).strip().split("\n")[0]
            raise InputError(
                f"the mixer raised {type(error).__name__}: {said}; it was called as mixer(query, key, value, **fixed) "
                f"with query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}, "
                f"fixed {sorted(self.fixed) or 'none'}"
            ) from error
        if not isinstance(y, Tensor):
            raise InputError(f"the mixer returned a {type(y).__name__}: it must return one tensor y")
        if y.shape != value.shape:
            raise InputError(
                f"the mixer returned shape {tuple(y.shape)} for values of shape {tuple(value.shape)}: y must be "
                "(batch, time, heads, value_dim); set value_dim and heads where they differ from the key's"
            )
        if y.dtype not in (torch.float32, *DOUBLES, torch.complex64):
            raise InputError(f"the mixer returned {y.dtype}: run it in float64, or in float32")
        self.precision = max(self.precision, torch.finfo(y.dtype).eps)
        return y

    def coefficients(
        self, columns: Sequence[int] | None = None, query: Tensor | None = None, key: Tensor | None = None
    ) -> Tensor:
        """alpha (batch, heads, time, columns) in double precision on the CPU, read off unit values.

        Asks for a mixer whose channels do not mix. value_dim tokens a call; all at once if it takes any value_dim.
        """
        columns = list(range(self.time)) if columns is None else list(columns)
        return self._read(columns, self._wide_width(), query, key)

    def _read(self, columns: list[int], width: int, query: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        parts = []
        for first in range(0, len(columns), width):
            some = columns[first : first + width]
            value = torch.zeros(self.batch, self.time, self.heads, width).to(self.normal(0))
            value[:, some, :, list(range(len(some)))] = 1
            parts.append(wide(tile(self(value, query, key)[..., : len(some)], 0, self.time)).cpu())
        return torch.cat(parts, -1)

    def _wide_width(self) -> int:
        """As many channels as tokens, if the mixer takes them and answers the same; else value_dim."""
        if self._width is None:
            columns = list(range(self.time))
            narrow, self._width = self._read(columns, self.width), self.width
            try:
                wider = self._read(columns, self.time)
            except InputError:
                return self._width
            if bool(((wider - narrow).abs() <= self.exact * narrow.abs().max()).all()):
                self._width = self.time
        return self._width
