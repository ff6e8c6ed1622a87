"""The kinds of b_j: how strongly an impulse enters. A kind returns b (batch, time, heads), or a factor a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixerlens.design.inits import constant
from mixerlens.design.parts.evolution.decay import STEPS
from mixerlens.design.parts.evolution.delta import beta
from mixerlens.design.parts.kind import Kind, table
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, number

if TYPE_CHECKING:
    pass


def _number(x: float) -> Tensor:
    return torch.full((1, 1, 1), x, dtype=torch.float64)


def _named(name: str, says: str, **told: object) -> Kind:
    """b is a signal."""
    return Kind(
        name,
        says,
        lambda a, o: a[name],
        {},
        lambda sizes, o: [Signal(name, (), sizes.heads, **told, says=says)],  # type: ignore[arg-type]
    )


SCALINGS = table(
    Kind("one", "b = 1", lambda a, o: None),
    Kind("constant", "b is a number", lambda a, o: _number(o["value"]), {"value": Option(number())}),
    Kind("inverse_sqrt_dim", "b = 1 / sqrt n", lambda a, o: _number(a.dim**-0.5)),
    Kind("beta", "b_j = beta_j, the delta rule's strength", lambda a, o: a["beta"], {}, lambda s, o: [beta(s.heads)]),
    _named("step", "b_j = step_j, the length of token j (Euler)", transform="softplus", low=0, init=STEPS),
    _named("input_gate", "b_j = input_gate_j", transform="sigmoid", init=constant(0.5)),
)
