"""The certificate of an acceleration: plain and accelerated runs on the same inputs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixerlens.accelerate.certificate import AccelerationCertificate
from mixerlens.accelerate.compare import (
    Answers,
    Gradients,
    MixerAudit,
    as_tokens,
    decided,
    gradient_check,
    same_answers,
)
from mixerlens.accelerate.dispatch import Call, answered
from mixerlens.accelerate.wide import Widened, to_float64
from mixerlens.capture import open as open_model
from mixerlens.capture.inputs import ModelInputs, takes_ids, vocabulary
from mixerlens.capture.lens import Lens, answer
from mixerlens.capture.quiet import quiet, undisturbed
from mixerlens.errors import InputError
from mixerlens.verify.certificate import Check
from mixerlens.verify.compare import difference, judge, not_applicable
from mixerlens.verify.generation import CHECKS, inapplicable
from mixerlens.verify.noise import FACTOR, logits_tolerance, rounding_noise
from mixerlens.verify.operators import EXACT

if TYPE_CHECKING:
    from mixerlens.accelerate.handle import Acceleration

TOKENS = 67  # more than one chunk of every scan, and a multiple of none


def certify(fast: Acceleration, inputs: Any, attention_mask: Any, gradients: bool) -> AccelerationCertificate:
    """See `Acceleration.certify`, which keeps the model accelerated meanwhile."""
    lens = open_model(fast.model) if fast.lens is None else fast.lens
    given = _random_ids(lens) if inputs is None else inputs
    runs = _Runs(lens, lens.prepare(given, attention_mask))
    with undisturbed(fast.model):
        checks = [*runs.logits(), *runs.mixers(fast), *runs.generation()]
        if gradients:
            checks.append(runs.gradients())
    return AccelerationCertificate(checks, dict(fast.mixers), dict(fast.unchanged), fast.kept)


def _random_ids(lens: Lens) -> Tensor:
    words = vocabulary(lens.model)
    if words is None or not takes_ids(lens.model):
        raise InputError(f"{type(lens.model).__name__} reads floats: give certify the inputs to compare on")
    time = min(TOKENS, lens.context_length or TOKENS)
    return torch.randint(0, words, (1, time), generator=torch.Generator().manual_seed(0))


class _Runs:
    """The runs of one model on one input, each done when it is first needed."""

    def __init__(self, lens: Lens, inputs: ModelInputs) -> None:
        self.lens, self.inputs = lens, inputs

    @cached_property
    def row(self) -> Tensor:
        """The row with the most tokens, without its padding."""
        inputs, mask = self.inputs.inputs, self.inputs.mask
        row = 0 if mask is None else int(mask.sum(1).argmax())
        return inputs[row : row + 1] if mask is None else inputs[row][mask[row]][None]

    @cached_property
    def exact_lens(self) -> Lens:
        """The model in float64, which is accelerated nowhere."""
        lens = open_model(self.lens.model, dtype=torch.float64)
        if lens.model is not self.lens.model and hasattr(lens.model, "set_experts_implementation"):
            with quiet():  # grouped expert kernels take no float64
                lens.model.set_experts_implementation("eager")  # type: ignore[operator]
        return lens

    def _run(self, lens: Lens) -> Tensor:
        inputs = self.inputs.inputs if lens is self.lens else to_float64(self.inputs.inputs)
        return as_tokens(answer(lens.forward(inputs, self.inputs.mask)), inputs.shape[1])

    def _exact(self) -> Tensor:
        with answered(Call.original), Widened():
            return self._run(self.exact_lens)

    def _exact_fast(self) -> Tensor:
        from mixerlens.accelerate.handle import accelerate

        with accelerate(self.exact_lens), Widened():
            return self._run(self.exact_lens)

    def logits(self) -> list[Check]:
        """In the model's dtype; where its rounding would hide a fault, in float64."""
        with answered(Call.original):
            plain, full = self._run(self.lens), answer(self.lens.forward(self.row))
            tolerance, reason = logits_tolerance(self.lens, self.row, full)
        told = "the accelerated model's answer against the plain one's"
        valid = self.inputs.mask if self.inputs.mask is not None and plain.shape[1] > 1 else None
        if tolerance is not None:
            told = f"{told}; {reason}"
            fast = self._run(self.lens)
            return [decided("logits", "forward", fast, plain, self._exact, tolerance, told, valid, head=None)]
        with answered(Call.original):
            noise = rounding_noise(self.lens, self.row, full)
        units = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
        tolerance = max(EXACT, FACTOR * units * noise)
        found = difference(self._exact_fast(), self._exact(), valid)
        told += f", both in float64 throughout; {FACTOR:.0f} x its rounding noise is allowed, at least {EXACT:.0e}"
        return [
            not_applicable("logits", "forward", reason),
            judge("logits", "float64", found, tolerance, told, head=None),
        ]

    def mixers(self, fast: Acceleration) -> list[Check]:
        audit = MixerAudit({info.path: info.index for info in self.lens.layers})
        with answered(audit):
            self._run(self.lens)
        seen = {path for path, _ in audit.checks}
        silent = [
            not_applicable("mixer", "model", f"{path}: {'; '.join(fast.kept.get(path, ['its scan was not called']))}")
            for path in fast.mixers
            if path not in seen
        ]
        return [*audit.checks.values(), *silent]

    def generation(self) -> list[Check]:
        if not self.inputs.is_ids:
            why = f"{type(self.lens.model).__name__} reads floats and has neither a cache nor padding"
            return [check for name in CHECKS for check in inapplicable(name, why)]
        with answered(Call.original):
            plain = Answers(self.lens, self.row)
            before = [check for name in CHECKS for check in CHECKS[name](plain)]
        fast = Answers(self.lens, self.row)
        after = [check for name in CHECKS for check in CHECKS[name](fast)]

        def exact(name: str) -> Answers:
            with answered(Call.original), Widened():
                run = Answers(self.exact_lens, self.row)
                CHECKS[name](run)
            return run

        return [
            same_answers(a, b, (plain, fast), lambda name=a.check: exact(name))
            for a, b in zip(before, after, strict=True)
        ]

    def gradients(self) -> Check:
        run = Gradients(self.lens, self.inputs)
        with answered(Call.original):
            plain, shaken = run(), run.shaken()

        def exact() -> dict[str, Tensor]:
            inputs = ModelInputs(to_float64(self.inputs.inputs), self.inputs.mask)
            with answered(Call.original), Widened():
                return Gradients(self.exact_lens, inputs)()

        return gradient_check(run, plain, shaken, run(), exact)
