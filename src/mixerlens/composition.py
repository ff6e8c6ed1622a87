"""Sums of mixers that act on the same values: y = sum_p w_p alpha^(p) v, row weights w_p (differential attention)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution.base import parameter
from mixerlens.shapes import take_heads, take_tokens

if TYPE_CHECKING:
    from mixerlens.operator import SumOperator


@dataclass(frozen=True, eq=False)
class CoefficientSum:
    """alpha = sum_p w_p alpha^(p): a mixer whose coefficients are a weighted sum of those of other mixers.

    parts: dynamics of equal batch, time and heads; each keeps its own evolution, readout, normaliser and support.
    weights: one a part, real: a number, or (batch | 1, time | 1, heads | 1) with leading axes left out, which weighs
        the rows (the queries).

    Raises InputError for sizes that do not fit together.
    """

    parts: tuple[CoefficientDynamics, ...]
    weights: tuple[float | Float[Tensor, "#batch #time #heads"], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or len(self.parts) != len(self.weights):
            raise InputError(f"a sum needs one weight a part: {len(self.parts)} parts, {len(self.weights)} weights")
        if not all(isinstance(d, CoefficientDynamics) for d in self.parts):
            raise InputError(f"parts must be CoefficientDynamics, got {[type(d).__name__ for d in self.parts]}")
        sizes = [(d.batch, d.time, d.heads) for d in self.parts]
        if len(set(sizes)) > 1:
            raise InputError(f"parts of a sum must have equal (batch, time, heads), got {', '.join(map(str, sizes))}")
        weights = []
        for p, w in enumerate(self.weights):
            if isinstance(w, Tensor):
                if w.is_complex() or not bool(torch.isfinite(w).all()):
                    raise InputError(f"weight {p} must be real and finite, it is {w.dtype} {tuple(w.shape)}")
                w = parameter(f"weight {p}", w, 0)
                if any(size not in (1, have) for size, have in zip(w.shape, sizes[0], strict=True)):
                    raise InputError(f"weight {p} is {tuple(w.shape)}, the parts are {sizes[0]}: each axis equal or 1")
            elif not isinstance(w, (int, float)) or not math.isfinite(w):
                raise InputError(f"weight {p} is {w!r}: give a finite number or a tensor (batch, time, heads)")
            weights.append(w)
        object.__setattr__(self, "weights", tuple(weights))

    @property
    def terms(self) -> tuple[tuple[CoefficientDynamics, Tensor | None], ...]:
        """The parts with their weights (batch | 1, time | 1, heads | 1); None is 1."""
        device = self.device

        def weight(w: float | Tensor) -> Tensor | None:
            if isinstance(w, Tensor):
                return w
            return None if w == 1 else torch.full((1, 1, 1), float(w), dtype=torch.float64, device=device)

        return tuple((d, weight(w)) for d, w in zip(self.parts, self.weights, strict=True))

    @property
    def batch(self) -> int:
        return self.parts[0].batch

    @property
    def time(self) -> int:
        return self.parts[0].time

    @property
    def heads(self) -> int:
        return self.parts[0].heads

    @property
    def dim(self) -> int:
        """Numbers of all parts' states together."""
        return sum(d.dim for d in self.parts)

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the scores, before the readouts."""
        return reduce(torch.promote_types, (d.dtype for d in self.parts))

    @property
    def coefficient_dtype(self) -> torch.dtype:
        """dtype of alpha."""
        return reduce(torch.promote_types, (d.coefficient_dtype for d in self.parts))

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    @property
    def causal(self) -> bool:
        """No row sees a later column."""
        return all(d.causal for d in self.parts)

    @property
    def recurrent(self) -> bool:
        """One state a part carries the past exactly."""
        return all(d.recurrent for d in self.parts)

    def operator(self, head: int | None = None) -> SumOperator:
        """alpha as an operator on values, for all heads or for one (the head axis stays, with size 1)."""
        from mixerlens.operator import SumOperator

        if head is None:
            return SumOperator(self)
        if not -self.heads <= head < self.heads:
            raise InputError(f"head {head} does not exist: there are {self.heads} heads")
        return SumOperator(self.select_heads([head % self.heads]))

    def select_heads(self, heads: Sequence[int]) -> CoefficientSum:
        """The same mixer with the given heads only."""
        index, count = list(heads), self.heads
        return self._change(lambda d: d.select_heads(index), lambda w: take_heads(w[..., None], index, count)[..., 0])

    def select_tokens(self, start: int, stop: int) -> CoefficientSum:
        """The same mixer on the tokens start <= t < stop only, as if they came first: what came before is its state."""
        return self._change(lambda d: d.select_tokens(start, stop), lambda w: take_tokens(w, start, stop))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> CoefficientSum:
        """Cast to float32 or float64 or move to a device."""
        return self._change(lambda d: d.to(dtype, device), lambda w: w.to(device=device, dtype=dtype))

    def detach(self) -> CoefficientSum:
        """The same numbers without their autograd history."""
        return self._change(CoefficientDynamics.detach, Tensor.detach)

    def _change(
        self, part: Callable[[CoefficientDynamics], CoefficientDynamics], weight: Callable[[Tensor], Tensor]
    ) -> CoefficientSum:
        weights = tuple(weight(w) if isinstance(w, Tensor) else w for w in self.weights)
        return replace(self, parts=tuple(part(d) for d in self.parts), weights=weights)


Mixer: TypeAlias = CoefficientDynamics | CoefficientSum


def weigh(rows: Tensor, weight: Tensor | None, lo: int = 0, hi: int | None = None) -> Tensor:
    """Rows lo <= i < hi, (batch, heads, rows, ...), times their weight (batch | 1, time | 1, heads | 1)."""
    if weight is None:
        return rows
    part = weight if weight.shape[1] == 1 else weight[:, lo:hi]
    return rows * part.transpose(1, 2).unsqueeze(-1).to(rows.device, rows.dtype.to_real())
