"""The gate form: every realised gate held, the logit is a sum over the numbers of the input, found backwards.

    logit = constant + sum_tc coefficient_tc input_tc

One adjoint convolution a layer pulls the head's row back to the input; the recorded pass and this cost less than two
forwards. For one block without GLU and norm, only its activation is held; deeper it is the frozen account (`frozen`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..measures.record import Record
from .layer import Forward

__all__ = ["GateForm", "gate_form", "to_input"]


@dataclass(frozen=True, eq=False)
class GateForm(Record):
    """coefficients, contributions: (time, channels). constant: what the biases add. logit: of the recorded pass."""

    question: str
    coefficients: Tensor = field(repr=False)
    contributions: Tensor = field(repr=False)
    constant: float
    logit: float

    labels: ClassVar[dict[str, str]] = {
        "coefficients": "The logit's slope in each input number with every gate held; not its gradient.",
        "contributions": "Coefficient times input number; with the constant they sum to the logit.",
        "constant": "What all biases add to the logit in this pass.",
        "logit": "What the pass gave.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(("contributions", "constant", "logit"), "logit")

    @property
    def total(self) -> float:
        return self.constant + float(self.contributions.sum())

    def to_json(self) -> dict[str, Any]:
        return self._described(
            {
                "question": self.question,
                "constant": self.constant,
                "total": self.total,
                "logit": self.logit,
                "coefficients": self.coefficients,
                "contributions": self.contributions,
            }
        )


@torch.no_grad()
def gate_form(forward: Forward) -> GateForm:
    """The attribution of a recorded pass."""
    coefficients, constant = to_input(forward, forward.cotangent, len(forward.blocks))
    return GateForm(
        question=forward.question,
        coefficients=coefficients,
        contributions=coefficients * forward.inputs,
        constant=float(constant + forward.bias),
        logit=forward.logit,
    )


def to_input(
    forward: Forward, cotangent: Float[Tensor, "time features"], layer: int
) -> tuple[Float[Tensor, "time channels"], Float[Tensor, ""]]:
    """A linear functional of what enters block ``layer`` as one of the input, the gates of all blocks before it held.

    Returns the coefficients and the constant that biases add; a layer count asks about what leaves the last block.
    """
    constant = cotangent.new_zeros(())
    for block in reversed(forward.blocks[:layer]):
        cotangent, added = block.pull_back(cotangent)
        constant = constant + added
    encoder = forward.model.encoder
    return cotangent @ encoder.weight, constant + (cotangent @ encoder.bias).sum()
