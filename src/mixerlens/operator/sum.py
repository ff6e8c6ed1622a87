"""The coefficients of a sum of mixers: one state a part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.composition import CoefficientSum, weigh
from mixerlens.errors import InputError
from mixerlens.operator.coefficients import Coefficients
from mixerlens.operator.operator import CoefficientOperator

State = tuple[Tensor, ...]


class SumOperator(Coefficients):
    """alpha = sum_p w_p alpha^(p) as an operator on values. Masses, maps and ranks are those of the sum."""

    dynamics: CoefficientSum

    @property
    def parts(self) -> tuple[CoefficientOperator, ...]:
        """The parts' own operators, unweighted."""
        return tuple(CoefficientOperator(d, transposed=self._transposed) for d in self.dynamics.parts)

    def apply(
        self,
        values: Inexact[Tensor, "batch time kv_heads value"],
        initial_state: Sequence[Tensor] | None = None,
        return_state: bool = False,
    ) -> Inexact[Tensor, "batch time heads value"] | tuple[Inexact[Tensor, "batch time heads value"], State]:
        """alpha @ values, starting from one state a part and handing one a part back, each as its part has it.

        Raises UnsupportedError where a part has no such state, InputError for another number of states.
        """
        self._forward_only("apply")
        if initial_state is None and not return_state:
            return self @ values
        states = [None] * len(self.parts) if initial_state is None else list(initial_state)
        if len(states) != len(self.parts):
            raise InputError(f"initial_state has {len(states)} states, this sum has {len(self.parts)} parts")
        outputs, last = [], []
        for part, state, (_, weight) in zip(self.parts, states, self.dynamics.terms, strict=True):
            y, after = part.apply(values, state, return_state=True)
            outputs.append(weigh(y.transpose(1, 2), weight))
            last.append(after)
        y = reduce(torch.add, outputs).transpose(1, 2)
        return (y, tuple(last)) if return_state else y

    def state_at(self, t: int, values: Inexact[Tensor, "batch time kv_heads value"]) -> State:
        """The parts' states after token t, each (batch, heads, dim of the part, value_dim)."""
        self._forward_only("state_at")
        return tuple(part.state_at(t, values) for part in self.parts)
