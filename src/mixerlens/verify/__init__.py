"""Certificates: what a model computes, checked against its own definition, with numbers, places and tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mixerlens.errors import InputError
from mixerlens.verify.certificate import Certificate, Check, Progress
from mixerlens.verify.compare import not_applicable
from mixerlens.verify.complete import beside_the_mixers
from mixerlens.verify.generation import CHECKS, Generation, inapplicable
from mixerlens.verify.operators import operator_checks

if TYPE_CHECKING:
    from torch import Tensor

    from mixerlens.capture import Trace

__all__ = ["ALL", "Certificate", "Check", "certify"]

ALL = ("operator", "step", "chunk", "padding")


def certify(trace: Trace, checks: Sequence[str] = ALL, progress: Progress | None = None) -> Certificate:
    """Run the named checks on a trace.

    operator is run on every recorded mixer, and says where tokens are mixed beside them; step, chunk and padding run
    the model again on the row of the trace with the most tokens, its padding removed.  `progress(what, done, total)`
    is called before each piece of work.
    Raises InputError for an unknown check.
    """
    unknown = [checks] if isinstance(checks, str) else [name for name in checks if name not in ALL]
    if unknown:
        raise InputError(f"unknown checks {unknown}: give a list out of {', '.join(ALL)}")
    wanted = [name for name in ALL if name in checks]
    calls = list(trace.mixers.values()) if "operator" in wanted else []
    rest = [name for name in wanted if name in CHECKS]
    report = progress or (lambda what, done, total: None)
    total = len(calls) + len(rest)
    found: list[Check] = []
    for k, call in enumerate(calls):
        report(f"operator {call.path}", k, total)
        found += operator_checks(call)
    if "operator" in wanted:
        found += [not_applicable("operator", "model", f"{p}: {why}") for p, why in trace.not_captured.items()]
        found += _beside(trace)
    found += _generation(trace, rest, lambda what, k: report(what, len(calls) + k, total))
    report("done", total, total)
    return Certificate(found)


def _longest_row(trace: Trace) -> Tensor:
    """The row of the inputs with the most tokens, (1, time) or (1, time, channels), without its padding."""
    mask = trace.attention_mask
    row = 0 if mask is None else int(mask.sum(1).argmax())
    return trace.inputs[row : row + 1] if mask is None else trace.inputs[row][mask[row]][None]


def _beside(trace: Trace) -> list[Check]:
    from mixerlens.capture.quiet import undisturbed

    if trace.inputs.is_floating_point():
        return []
    with undisturbed(trace.lens.model):
        return beside_the_mixers(trace.lens, _longest_row(trace))


def _generation(trace: Trace, names: list[str], report) -> list[Check]:
    from mixerlens.capture.quiet import undisturbed

    if not names:
        return []
    lens = trace.lens
    if trace.inputs.is_floating_point() and not lens.caches:
        why = f"{type(lens.model).__name__} reads floats and has neither a cache nor padding"
        return [check for name in names for check in inapplicable(name, why)]
    row = _longest_row(trace)
    found: list[Check] = []
    with undisturbed(lens.model):
        report("full forward", 0)
        run = Generation(lens, row)
        for k, name in enumerate(names):
            report(name, k)
            found += CHECKS[name](run)
    return found
