"""The operator check: do the coefficients give what the mixer computed?

Two comparisons a mixer:

- model: (alpha @ values + skip) * gate, in the dtype of the call, against what the model's own mixer returned, each
  head relative to the largest that alpha @ values adds to it. A skip is known exactly and would only hide an error:
  of it nothing but the rounding of the sum is allowed for. A head whose coefficients drown in that rounding cannot be
  judged, and is counted;
- recurrence: alpha @ values against the family's plain sequential recurrence, both in float64, on the same captured
  arguments; what the model rounds is outside it, so it is held to 1e-11 for every model. Where no finite recurrence
  exists (softmax), and for a designed mixer, which is defined by its parts, it is the plain sum over all tokens, one
  row after the other, and called token-by-token sum.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from mixerlens import references
from mixerlens.capture.call import MixerCall
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import MemoryBudgetError, UnsupportedError
from mixerlens.normalizer import NoNormalizer
from mixerlens.operator.oracle import oracle
from mixerlens.operator.tiles import RowBlock
from mixerlens.readout import Identity
from mixerlens.verify.certificate import PASS, Check
from mixerlens.verify.compare import difference, judge, largest_by_head, not_applicable
from mixerlens.verify.noise import LOOSEST_HALF

EXACT = 1e-11
SINGLE = 1e-5
RECURRENCE, SUM = "recurrence", "token-by-token sum"
PLAIN = {RECURRENCE: "the sequential recurrence", SUM: "the sum over tokens, row by row"}
ROUNDINGS = 4  # units of the skip that the model's sum, ours and the gate may round by
HIDDEN = 0.5  # coefficients that add no more than twice the rounding of their skip show nothing


def model_tolerance(call: MixerCall) -> tuple[float, str]:
    """What a call's own arithmetic allows, relative to the head's largest output, and why."""
    name = str(call.compute_dtype).removeprefix("torch.")
    if call.compute_dtype == torch.float64:
        if call.cast_by is None:
            return EXACT, "the mixer computes in float64"
        return SINGLE, f"float32 floor: {call.cast_by} casts to float32 inside"
    if call.compute_dtype == torch.float32:
        return SINGLE, "the mixer computes in float32"
    units, why = 8.0, f"the mixer rounds to {name}"
    if call.family == "softmax_attention":  # an implementation may round the scores, which exp amplifies by their size
        score = largest_score(call.dynamics)
        units, why = max(units, score / 4), f"{why}, with scores up to {score:.0f}"
    return units * torch.finfo(call.compute_dtype).eps, f"{why}: {units:.0f} of its units"


class _Largest:
    """A reduction: the largest |coefficient|."""

    def start(self, d: CoefficientDynamics) -> None:
        self.found = torch.zeros((), device=d.device)

    def update(self, block: RowBlock, size: Tensor) -> None:
        self.found = torch.maximum(self.found, torch.where(block.mask, size, 0).max())

    def result(self) -> Tensor:
        return self.found


def largest_score(d: CoefficientDynamics) -> float:
    """max |q_i^T u_ij| over the support: what the readout of a mixer sees."""
    scores = dataclasses.replace(d, readout=Identity(), normalizer=NoNormalizer())
    largest = _Largest()
    scores.operator().reduce(largest)
    return float(largest.result())


def _on_cpu(x: Any) -> Any:
    return x.cpu() if isinstance(x, Tensor) else x


def operator_checks(call: MixerCall) -> list[Check]:
    """Both comparisons for one mixer call, reported at its worst head."""
    where, plain = {"layer": call.layer, "mixer": call.path}, RECURRENCE
    try:
        plain = RECURRENCE if call.family in references.REGISTRY and _finite(call.dynamics) else SUM
        tolerance, why = model_tolerance(call)
        if tolerance > LOOSEST_HALF:
            against_model = not_applicable("operator", "model", f"{call.path}: {why}, too many to tell a fault by")
        else:
            against_model = _against_model(call, tolerance, why, **where)
        exact = call.to(torch.float64)
        found = difference(exact.operator() @ exact.values, _plainly(exact), call.valid)
        against_plain = judge(
            "operator", plain, found, EXACT,
            f"{call.path}: alpha @ values against {PLAIN[plain]}, both in float64 on the captured arguments",
            **where,
        )  # fmt: skip
    except (UnsupportedError, MemoryBudgetError) as error:
        return [not_applicable("operator", v, f"{call.path}: {error}") for v in ("model", plain)]
    return [against_model, against_plain]


def _finite(d: CoefficientDynamics) -> bool:
    """Whether the family's reference carries a state of fixed size."""
    return all(part.readout.finite_state and part.support.recurrent for part, _ in d.terms)


def _plainly(call: MixerCall) -> Tensor:
    """The family's own loop over time; of a designed mixer, which is defined by its parts, the equation row by row."""
    if call.family not in references.REGISTRY:
        return oracle(call.dynamics, call.values)
    plain = {name: _on_cpu(x) for name, x in call.arguments.items()}  # references are plain loops, on the CPU
    return references.REGISTRY[call.family](value=_on_cpu(call.values), **plain)


def _against_model(call: MixerCall, tolerance: float, why: str, **where: Any) -> Check:
    """What alpha @ values adds to the mixer's output, head by head."""
    mixed = call.mixed()
    scale, lost = None, ""
    if call.skip is not None:
        gate = 1 if call.gate is None else call.gate
        added = largest_by_head(mixed * gate, call.valid)
        rounding = ROUNDINGS * _epsilon(call) * largest_by_head(call.skip * gate, call.valid)
        scale, hidden = added + rounding / tolerance, int((rounding > HIDDEN * added).sum())
        if hidden:
            lost = f"; {hidden} of {len(added)} heads add less than the rounding of their skip, which hides them"
    check = judge(
        "operator", "model", difference(call.predict(mixed), call.output, call.valid, scale), tolerance,
        f"{call.path}: (alpha @ values + skip) * gate against the model's mixer; {why}{lost}", **where,
    )  # fmt: skip
    if lost and check.status == PASS and hidden == len(added):
        return not_applicable("operator", "model", f"{call.path}{lost}: a wider dtype may show them")
    return check


def _epsilon(call: MixerCall) -> float:
    """The unit in which the mixer rounds its sum."""
    dtype = torch.float32 if call.cast_by is not None and call.compute_dtype == torch.float64 else call.compute_dtype
    return torch.finfo(dtype).eps
