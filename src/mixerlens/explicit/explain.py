"""Why an S4D classifier gave this logit: a constant, waves by themselves, waves two by two; certified or refused.

logit = constant + sum_g linear_g + sum_gg' A_gg'
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UnsupportedError
from ..measures.record import Record
from .frozen import FrozenAccount, frozen_pass
from .gate import to_input
from .layer import Forward, record
from .pairs import SEGMENTS, PairForm, pair_form
from .removal import PAIRS, Removal, removal

__all__ = ["LARGEST_ERROR", "Explanation", "NotCertifiedError", "explain"]

LARGEST_ERROR = 1e-10  # of a sum, relative to the logit's size


class NotCertifiedError(UnsupportedError):
    """An account and the model disagree: the account is not given."""


@dataclass(frozen=True, eq=False)
class Explanation(Record):
    """The accounts of one pass and what the model itself says.

    pairs: the account. linear_waves: (time, channels), its linear part input number by input number. frozen: the whole
    logit by input number, with the gradient beside it. removal: what happens without segments, None if not asked for.
    logit: the model's own, in float64; logit_as_stored: in the dtype its weights are stored in. size: what the error of
    the accounts' sums is relative to, the sum of the magnitudes that the head adds up.
    """

    target: int
    against: int | None
    predicted: int
    pairs: PairForm
    linear_waves: Tensor = field(repr=False)
    frozen: FrozenAccount
    removal: Removal | None
    logit: float
    logit_as_stored: float
    dtype: str
    size: float

    labels: ClassVar[dict[str, str]] = {
        "logit": "The model's own answer, in float64.",
        "logit_as_stored": "The same in the dtype that its weights are stored in.",
        "total": "Constant, linear waves and interactions added up.",
        "relative_error": "|sum - logit| of the worse account, over the magnitudes that the head adds up to the logit.",
        "pairs": "The account: bookkeeping of this pass.",
        "linear_waves": "The account's linear part by input number; a segment's sum is its wave's.",
        "frozen": "The whole logit by input number with every gate held: bookkeeping of this pass.",
        "removal": "What the model does without a segment, and without two.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(("logit", "logit_as_stored", "total", "linear_waves"), "logit")

    @property
    def total(self) -> float:
        return self.pairs.total

    @property
    def relative_error(self) -> float:
        error = max(abs(account.total - self.logit) for account in (self.pairs, self.frozen))
        return error / max(self.size, sys.float_info.min)  # a head of zeros has no size, and no error

    def top_pairs(self, count: int = 5) -> list[tuple[int, int, float]]:
        """The pairs of waves (g, g', 2 A_gg'), g < g', with the largest interactions; wave ``segments`` is the bias."""
        waves = len(self.pairs.linear)
        above = torch.triu_indices(waves, waves, 1, device=self.pairs.linear.device)
        both = 2 * self.pairs.interactions[above[0], above[1]]
        largest = both.abs().argsort(descending=True, stable=True)[:count]
        return [(int(above[0, k]), int(above[1, k]), float(both[k])) for k in largest]

    def to_json(self) -> dict[str, Any]:
        return self._described(
            {
                "question": self.pairs.question,
                "target": self.target,
                "against": self.against,
                "predicted": self.predicted,
                "logit": self.logit,
                "logit_as_stored": self.logit_as_stored,
                "dtype": self.dtype,
                "total": self.total,
                "relative_error": self.relative_error,
                "pairs": self.pairs.to_json(),
                "linear_waves": self.linear_waves,
                "frozen": self.frozen.to_json(),
                "removal": None if self.removal is None else self.removal.to_json(),
            }
        )


@torch.inference_mode(False)
def explain(
    model: Any,
    inputs: Float[Tensor, "time channels"],
    target: int | None = None,
    *,
    against: int | None = None,
    segments: int = SEGMENTS,
    baseline: Float[Tensor, "time channels"] | Float[Tensor, " channels"] | None = None,
    removed_pairs: int | None = PAIRS,
    remove: bool = True,
    hessian: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Explanation:
    """Explain one logit, or a difference of two, of an S4DClassifier; everything runs in float64, on a copy.

    target: a class, None for the predicted one. against: a class whose logit is subtracted. segments: of the input.
    baseline: what counts as no input, zero unless given (a training mean, say). remove: run the model without each
    segment too, and without the ``removed_pairs`` of them with the largest interactions (None: all). hessian: the
    curvature between segments beside it. progress: called with the forward passes of the removal done and their number.

    Raises what `record`, `pair_form` and `removal` raise, and NotCertifiedError if an account does not sum to the
    model's own logit within 1e-10 of its size.
    """
    forward = record(model, inputs, target, against)
    with torch.no_grad():
        classes = forward.model(forward.inputs[None])
        stored = model(forward.inputs[None].to(model.head.weight.dtype))
    own, as_stored = (float(forward.of_classes(logits[0])) for logits in (classes, stored))
    pairs = pair_form(forward, segments, baseline)
    found = Explanation(
        target=forward.target,
        against=forward.against,
        predicted=int(classes.argmax()),
        pairs=pairs,
        linear_waves=_linear_waves(forward, pairs.baseline),
        frozen=frozen_pass(forward),
        removal=removal(forward, pairs, pairs=removed_pairs, hessian=hessian, progress=progress) if remove else None,
        logit=own,
        logit_as_stored=as_stored,
        dtype=str(model.head.weight.dtype).removeprefix("torch."),
        size=float((forward.weight * forward.x.mean(0)).abs().sum() + forward.bias.abs()),
    )
    if not found.relative_error <= LARGEST_ERROR:
        raise NotCertifiedError(
            f"the account of {forward.question} sums to {found.total:.17g}, the model gives {own:.17g}: "
            f"{found.relative_error:.1e} of its size apart, more than {LARGEST_ERROR:g}, so it is refused; "
            "the numbers of this input or model are too large for float64"
        )
    return found


@torch.no_grad()
def _linear_waves(forward: Forward, baseline: Tensor) -> Tensor:
    """The linear part of the pair form, backwards: the last activation replaced by its slope at zero."""
    last = forward.blocks[-1]
    cotangent, _ = last.pull_back(forward.cotangent, gate=last.layer.activation.linear)
    coefficients, _ = to_input(forward, cotangent, len(forward.blocks) - 1)
    return coefficients * (forward.inputs - baseline)
