"""The operator check: do the coefficients give what the mixer computed?

Two comparisons a mixer, each head against its own largest output:

- model: (alpha @ values + skip) * gate, in the dtype of the call, against what the model's own mixer returned;
- recurrence: alpha @ values against the family's plain sequential recurrence, both in float64, on the same captured
  arguments; what the model rounds is outside it, so it is held to 1e-11 for every model.
"""

from __future__ import annotations

import torch

from mixerlens import references
from mixerlens.capture.call import MixerCall
from mixerlens.errors import MemoryBudgetError, UnsupportedError
from mixerlens.verify.certificate import Check
from mixerlens.verify.compare import difference, judge, not_applicable

EXACT = 1e-11
SINGLE = 1e-5


def model_tolerance(call: MixerCall) -> tuple[float, str]:
    """What a call's own arithmetic allows, relative to the head's largest output, and why."""
    name = str(call.compute_dtype).removeprefix("torch.")
    if call.compute_dtype == torch.float64:
        if call.cast_by is None:
            return EXACT, "the mixer computes in float64"
        return SINGLE, f"float32 floor: {call.cast_by} casts to float32 inside"
    if call.compute_dtype == torch.float32:
        return SINGLE, "the mixer computes in float32"
    return 8 * torch.finfo(call.compute_dtype).eps, f"the mixer rounds to {name}: 8 of its units"


def operator_checks(call: MixerCall) -> list[Check]:
    """Both comparisons for one mixer call, reported at its worst head."""
    where = {"layer": call.layer, "mixer": call.path}
    try:
        tolerance, why = model_tolerance(call)
        ours = call.predict(call.operator() @ call.values)
        against_model = judge(
            "operator", "model", difference(ours, call.output, call.valid), tolerance,
            f"{call.path}: (alpha @ values + skip) * gate against the model's mixer; {why}", **where,
        )  # fmt: skip
        exact = call.to(torch.float64)
        reference = references.REGISTRY[call.family](value=exact.values, **exact.arguments)
        found = difference(exact.operator() @ exact.values, reference, call.valid)
        against_recurrence = judge(
            "operator", "recurrence", found, EXACT,
            f"{call.path}: alpha @ values against the sequential recurrence, both in float64 on the captured arguments",
            **where,
        )  # fmt: skip
    except (UnsupportedError, MemoryBudgetError) as error:
        return [not_applicable("operator", v, f"{call.path}: {error}") for v in ("model", "recurrence")]
    return [against_model, against_recurrence]
