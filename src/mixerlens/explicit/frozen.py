"""The frozen account of a pass, with what it is not: a prediction.

Every gate held, the network is affine in its input and the logit is exactly a constant plus a sum over input numbers,
at any depth and through norms. That is bookkeeping of THIS pass. What a change of the input does, the gates take part
in; so the gradient stands beside the account, and both are set against what the model really does when its input is
perturbed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from ..measures.record import Record
from .gate import GateForm, gate_form
from .layer import Forward, record

__all__ = ["FrozenAccount", "frozen_account", "frozen_pass"]


@dataclass(frozen=True, eq=False)
class FrozenAccount(Record):
    """account: the gate form of the pass. gradient: of the logit by each input number, (time, channels).

    change, change_account, change_jacobian: (draws,), what each perturbation does to the logit, what the account says
    it does (coefficients . perturbation) and what the gradient says.
    """

    account: GateForm
    gradient: Tensor = field(repr=False)
    gradient_times_input: Tensor = field(repr=False)
    perturbation: str
    change: Tensor = field(repr=False)
    change_account: Tensor = field(repr=False)
    change_jacobian: Tensor = field(repr=False)
    logit: float
    held: tuple[str, ...]

    labels: ClassVar[dict[str, str]] = {
        "contributions": "Bookkeeping of this pass, every gate held: with the constant they sum to the logit.",
        "constant": "What all biases add to the logit in this pass.",
        "gradient_times_input": "The Jacobian's answer, input number by input number; it sums to no logit.",
        "logit": "What the model gave.",
        "change": "What each perturbation really does to the logit.",
        "change_account": "What the frozen account says that it does.",
        "change_jacobian": "What the gradient says that it does.",
        "missed_account": "Share of the change that the account misses: |said - real| / |real|, root mean squares.",
        "missed_jacobian": "The same for the gradient.",
        "held": "Gates of this pass that the account takes as constants.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(
        ("contributions", "constant", "gradient_times_input", "logit", "change", "change_account", "change_jacobian"),
        "logit",
    )

    @property
    def total(self) -> float:
        return self.account.total

    @property
    def missed_account(self) -> float:
        return self._missed(self.change_account)

    @property
    def missed_jacobian(self) -> float:
        return self._missed(self.change_jacobian)

    def _missed(self, said: Tensor) -> float:
        return float((said - self.change).norm() / self.change.norm())  # NaN where nothing changes

    def to_json(self) -> dict[str, Any]:
        return self._described(
            {
                "question": self.account.question,
                "constant": self.account.constant,
                "contributions": self.account.contributions,
                "total": self.total,
                "logit": self.logit,
                "gradient_times_input": self.gradient_times_input,
                "perturbation": self.perturbation,
                "change": self.change,
                "change_account": self.change_account,
                "change_jacobian": self.change_jacobian,
                "missed_account": self.missed_account,
                "missed_jacobian": self.missed_jacobian,
                "held": self.held,
            }
        )


@torch.inference_mode(False)
def frozen_account(
    model: Any,
    inputs: Float[Tensor, "time channels"],
    target: int | None = None,
    *,
    against: int | None = None,
    size: float = 0.01,
    draws: int = 16,
    seed: int = 0,
) -> FrozenAccount:
    """The account of one pass of an S4DClassifier, the gradient, and both tried on perturbations of the input.

    size: of the perturbations, white noise, relative to the input's root mean square. draws: how many. seed: of them.

    Raises what `record` raises, and InputError for a size that is not positive or less than one draw.
    """
    return frozen_pass(record(model, inputs, target, against), size=size, draws=draws, seed=seed)


def frozen_pass(forward: Forward, *, size: float = 0.01, draws: int = 16, seed: int = 0) -> FrozenAccount:
    """`frozen_account` of a pass that is recorded already."""
    if not size > 0 or draws < 1:
        raise InputError(f"size {size}, draws {draws}: perturbations need a positive size and at least one draw")
    account = gate_form(forward)
    logit, gradient = _gradient(forward)
    x = forward.inputs
    noise = torch.randn(draws, *x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x.device)
    noise *= size * x.square().mean().sqrt()
    return FrozenAccount(
        account=account,
        gradient=gradient,
        gradient_times_input=gradient * x,
        perturbation=f"white noise of {size:g} of the input's root mean square, {draws} draws, seed {seed}",
        change=forward.logits_of(x + noise) - logit,
        change_account=(noise * account.coefficients).sum((1, 2)),
        change_jacobian=(noise * gradient).sum((1, 2)),
        logit=logit,
        held=forward.held(),
    )


def _gradient(forward: Forward) -> tuple[float, Tensor]:
    """The model's own logit and its gradient by the input, both by running the model once more."""
    inputs = forward.inputs.clone().requires_grad_()
    with torch.enable_grad():
        classes = forward.model(inputs[None])[0]
        logit = classes[forward.target] - (0 if forward.against is None else classes[forward.against])
        (gradient,) = torch.autograd.grad(logit, inputs)
    return float(logit.detach()), gradient
