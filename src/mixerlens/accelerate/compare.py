"""Plain and accelerated results side by side: mixers, cached calls, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from mixerlens.accelerate.dispatch import Call
from mixerlens.accelerate.wide import Widened, to_float64
from mixerlens.capture.inputs import ModelInputs
from mixerlens.capture.lens import Lens, answer
from mixerlens.verify.certificate import FAIL, NOT_APPLICABLE, Check
from mixerlens.verify.compare import Difference, difference, judge, not_applicable
from mixerlens.verify.generation import Generation
from mixerlens.verify.noise import FACTOR, FLOOR, LOOSEST, LOOSEST_HALF, rounding_noise
from mixerlens.verify.operators import EXACT, SINGLE

HALF_UNITS = 8

LONG = 9 * 64 + 3  # tokens: more than a block of any scan's chunks, and a multiple of none


def decided(
    check: str,
    variant: str,
    fast: Tensor,
    plain: Tensor,
    exact: Callable[[], Tensor],
    tolerance: float,
    reason: str,
    valid: Tensor | None = None,
    **where: Any,
) -> Check:
    """Accelerated against plain, (batch, time, heads, dim).  Where they differ too much, `exact`, what the library
    computes in float64, decides: a check passes if the accelerated one is right."""
    found = difference(fast, plain, valid)
    if found.not_finite or found.max_rel <= tolerance:
        return judge(check, variant, found, tolerance, reason, **where)
    truth = exact()
    ours, theirs = difference(fast, truth, valid), difference(plain, truth, valid)
    told = f"{reason}; of a float64 run the plain one is {theirs.max_rel:.0e} off, the accelerated {ours.max_rel:.0e}"
    if ours.max_rel <= tolerance:
        return judge(check, variant, ours, tolerance, f"{told}: the difference is the library's rounding", **where)
    return judge(check, variant, found, tolerance, told, **where)


def as_tokens(x: Tensor, time: int) -> Tensor:
    """A model's answer as (batch, time, 1, dim); one without a time axis counts as one token."""
    return x[:, :, None] if x.dim() == 3 and x.shape[1] == time else x.reshape(x.shape[0], 1, 1, -1)


class MixerAudit:
    """Answers calls as the accelerated model does, and compares each with the library's function on the way."""

    def __init__(self, layers: dict[str, int]) -> None:
        self.layers = layers
        self._lengthened: set[str] = set()
        self.checks: dict[tuple[str, str], Check] = {}
        self._worst: dict[tuple[str, str], tuple[bool, float]] = {}

    def __call__(self, call: Call) -> Any:
        asked, wide = call.with_state(), call.with_state(to_float64)
        plain, fast = _parts(asked, asked.original()), _parts(asked, asked.replacement())
        with Widened():
            exact, fast64 = _parts(wide, wide.original()), _parts(wide, wide.replacement())
        tolerance, why = _mixer_tolerance(call)
        where = {"layer": self.layers.get(call.path), "mixer": call.path}
        for k, what in enumerate(("output", "last state")):
            reason = f"{call.path}: {what} of {call.dispatcher.replacement.scan} against {call.dispatcher.name}"
            told, truth = f"{reason}; {why}", lambda k=k: exact[k]
            apart = difference(fast[k], plain[k]).max_rel
            self._keep(decided("mixer", "model", fast[k], plain[k], truth, tolerance, told, **where), apart)
            told = f"{reason}, both in float64 throughout on the same arguments"
            found = difference(fast64[k], exact[k])
            self._keep(judge("mixer", "float64", found, EXACT, told, **where), found.max_rel)
        if call.path not in self._lengthened:
            self._lengthened.add(call.path)
            self._long(wide.lengthened(LONG), where)
        return call.replacement()

    def _long(self, call: Call, where: dict[str, Any]) -> None:
        """Scans work in chunks and blocks of chunks: a call of a few tokens would not see what goes wrong between."""
        with Widened():
            exact, fast = _parts(call, call.original()), _parts(call, call.replacement())
        for k, what in enumerate(("output", "last state")):
            told = f"{call.path}: {what} on the same tokens over and over, {LONG} or more, both in float64"
            found = difference(fast[k], exact[k])
            self._keep(judge("mixer", "long", found, EXACT, told, **where), found.max_rel)

    def _keep(self, check: Check, apart: float) -> None:
        """Of one mixer's checks, keep one that fails, or where plain and accelerated are furthest apart."""
        key, bad = (str(check.mixer), check.variant), (check.status == FAIL, apart)
        if bad > self._worst.get(key, (False, -1.0)):
            self._worst[key], self.checks[key] = bad, check


def _badness(check: Check) -> tuple[bool, float]:
    return check.status == FAIL, float("inf") if check.max_rel is None else check.max_rel


def _mixer_tolerance(call: Call) -> tuple[float, str]:
    dtype = call.named[call.dispatcher.replacement.needed[0]].dtype
    if dtype == torch.float64:
        return SINGLE, "float32 floor: the function casts to float32 inside"
    if dtype == torch.float32:
        return SINGLE, "the mixer computes in float32"
    name = str(dtype).removeprefix("torch.")
    return HALF_UNITS * torch.finfo(dtype).eps, f"the mixer rounds to {name}: {HALF_UNITS} of its units"


def _parts(call: Call, returned: Any) -> tuple[Tensor, Tensor]:
    """Output and last state, heads on the third axis."""
    y, state = returned
    y = y.transpose(1, 2)[..., None] if call.dispatcher.replacement.scan == "selective_scan" else y
    return y.detach(), state.detach().flatten(2)[:, None]


class Answers(Generation):
    """The checks of cached and padded calls, with the answers they compared and the position these begin at."""

    def __init__(self, lens: Lens, ids: Tensor) -> None:
        super().__init__(lens, ids)
        self.answers: dict[tuple[str, str], list[tuple[Tensor, int]]] = {}

    def _judge(self, check: str, variant: str, result: Tensor, reference: Tensor, reason: str, first: int) -> Check:
        self.answers.setdefault((check, variant), []).append((result[:, :, None], first))
        return super()._judge(check, variant, result, reference, reason, first)


def same_answers(plain: Check, fast: Check, runs: tuple[Answers, Answers], exact: Callable[[], Answers]) -> Check:
    """One check of cached or padded calls, as the plain and as the accelerated model did it.

    exact: runs the same check in float64 and gives its answers.
    """
    check, variant = plain.check, plain.variant
    if plain.status == NOT_APPLICABLE:
        return not_applicable(check, variant, plain.reason)
    if plain.max_rel is None:
        if fast.max_rel is None:
            return not_applicable(check, variant, f"plain and accelerated alike: {plain.reason}")
        return Check(check, variant, FAIL, None, None, plain.tolerance, f"only the plain one fails: {plain.reason}")
    if fast.max_rel is None:
        return Check(check, variant, FAIL, None, None, plain.tolerance, f"accelerated: {fast.reason}")
    assert plain.tolerance is not None
    reason = f"accelerated against plain, the same calls; {runs[0].reason}"
    if plain.status == FAIL:
        reason += (
            f"; both are off the model's own full forward, the plain one by {plain.max_rel:.0e} and the accelerated by "
            f"{fast.max_rel:.0e}: a fault of the library, which acceleration keeps"
        )
    key = check, variant
    found = []
    for k, ((a, _), (b, first)) in enumerate(zip(runs[1].answers[key], runs[0].answers[key], strict=True)):
        truth = lambda k=k: exact().answers[key][k][0]  # noqa: E731
        worst = decided(check, variant, a, b, truth, plain.tolerance, reason, head=None)
        found.append(replace(worst, position=None if worst.position is None else worst.position + first))
    return max(found, key=_badness)


class Gradients:
    """Gradients of a random projection of the answer in all parameters; to `rounding_noise` it looks like a lens."""

    def __init__(self, lens: Lens, inputs: ModelInputs) -> None:
        self.model, self.dtype = lens.model, lens.dtype
        self._lens, self._inputs = lens, inputs
        self._weights = {name: p for name, p in lens.model.named_parameters() if p.requires_grad}
        self.last: dict[str, Tensor] = {}

    def __call__(self) -> dict[str, Tensor]:
        self.forward()
        return self.last

    def shaken(self) -> dict[str, Tensor]:
        """The gradients with every module's result moved by half a unit in the last place."""
        rounding_noise(cast(Lens, self), self._inputs.inputs, torch.ones(1))
        return self.last

    def forward(self, *_: Any) -> Tensor:
        if not self._weights:
            return torch.zeros(1)
        with torch.enable_grad():
            out = answer(self._lens.forward(self._inputs.inputs, self._inputs.mask))
            generator = torch.Generator().manual_seed(0)
            probe = torch.randint(0, 2, out.shape, generator=generator).to(out) * 2 - 1
            mask = self._inputs.mask
            if mask is not None and out.shape[:2] == mask.shape:
                probe = probe * mask.flatten(0).view(*mask.shape, *[1] * (out.dim() - 2))
            found = torch.autograd.grad((out * probe).sum(), list(self._weights.values()), allow_unused=True)
        self.last = {name: g.detach() for name, g in zip(self._weights, found, strict=True) if g is not None}
        return torch.ones(1)


def gradient_check(
    run: Gradients, plain: dict[str, Tensor], shaken: dict[str, Tensor], fast: dict[str, Tensor],
    exact: Callable[[], dict[str, Tensor]],
) -> Check:  # fmt: skip
    """Every parameter's gradient, relative to its largest entry, up to max(1e-5, 8 x what rounding does to it).

    Parameters of which rounding moves the gradient by so much that a fault would pass are counted, not judged.
    """
    if not plain:
        return not_applicable("gradient", "parameters", "no parameter has a gradient")
    limit = LOOSEST.get(run.dtype, LOOSEST_HALF)
    noise = {name: _relative(shaken[name], plain[name]) for name in plain}
    judged = [name for name in plain if FACTOR * noise[name] <= limit]
    lost = f"; of {len(plain) - len(judged)} of {len(plain)} parameters rounding hides it" * (len(judged) < len(plain))
    if not judged:
        return not_applicable("gradient", "parameters", f"nothing can be told{lost}: open the model in a wider dtype")
    most = max(noise[name] for name in judged)
    tolerance = max(FLOOR, FACTOR * most)
    found = {name: _relative(fast[name], plain[name]) for name in judged}
    worst = max(found, key=lambda name: found[name])
    reason = (
        f"gradients of {len(judged)} parameters, each relative to its largest (worst: {worst}), accelerated against "
        f"plain; tolerance: max({FLOOR:.0e}, {FACTOR:.0f} x the measured rounding noise {most:.0e}){lost}"
    )
    size = float((fast[worst] - plain[worst]).abs().max())
    if found[worst] > tolerance:
        truth = exact()
        ours, theirs = (max(_relative(g[name], truth[name]) for name in judged) for g in (fast, plain))
        reason += f"; of a float64 run the plain ones are {theirs:.0e} off, the accelerated {ours:.0e}"
        if ours <= tolerance:
            reason += ": the difference is the library's rounding"
            found[worst] = ours
    difference = Difference(size, found[worst], 0, 0)
    return judge("gradient", "parameters", difference, tolerance, reason, head=None, position=None)


def _relative(x: Tensor, reference: Tensor) -> float:
    error, size = (x.double() - reference.double()).abs().max(), reference.double().abs().max()
    return 0.0 if error == 0 else float(error / size)
