"""Comparing what was computed with what should have been, and judging it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.verify.certificate import FAIL, NOT_APPLICABLE, PASS, Check


@dataclass(frozen=True)
class Difference:
    """Largest errors of a comparison and where they are; not_finite names the first NaN or infinity, if any."""

    max_abs: float
    max_rel: float
    head: int
    position: int
    not_finite: str | None = None


def difference(result: Tensor, reference: Tensor, valid: Tensor | None = None) -> Difference:
    """Compare (batch, time, heads, dim) tensors on valid tokens, each head relative to its own largest reference.

    valid: bool (batch, time), or None for all tokens.
    """
    reference = reference.to(result.device)
    wide = torch.complex128 if result.is_complex() or reference.is_complex() else torch.float64
    result, reference = result.to(wide), reference.to(wide)
    keep = torch.ones(result.shape[:2], dtype=torch.bool) if valid is None else valid
    keep = keep.to(result.device)[:, :, None, None]
    for name, x in (("result", result), ("reference", reference)):
        wrong = ~torch.isfinite(x) & keep
        if wrong.any():
            _, position, head, _ = wrong.nonzero()[0].tolist()
            return Difference(float("nan"), float("nan"), head, position, f"the {name} is NaN or infinite")
    error = torch.where(keep, (result - reference).abs(), 0)
    scale = torch.where(keep, reference.abs(), 0).amax((0, 1, 3))
    by_head = error.amax((0, 1, 3))
    relative = torch.where(by_head == 0, 0.0, by_head / scale)
    head = int(relative.argmax())
    position = int(error[:, :, head].amax((0, 2)).argmax())
    return Difference(float(by_head.max()), float(relative[head]), head, position)


def judge(check: str, variant: str, found: Difference, tolerance: float, reason: str, **where: object) -> Check:
    """Pass or fail by the relative error; `where` holds layer and mixer and overrides head and position."""
    places = {"head": found.head, "position": found.position} | where
    if found.not_finite:
        return Check(check, variant, FAIL, None, None, tolerance, f"{found.not_finite}; {reason}", **places)  # type: ignore[arg-type]
    status = PASS if found.max_rel <= tolerance else FAIL
    return Check(check, variant, status, found.max_abs, found.max_rel, tolerance, reason, **places)  # type: ignore[arg-type]


def not_applicable(check: str, variant: str, reason: str) -> Check:
    return Check(check, variant, NOT_APPLICABLE, None, None, None, reason)


def crashed(check: str, variant: str, error: Exception) -> Check:
    """The library itself failed at something it offers: a failure without numbers."""
    line = " ".join(str(error).split())[:200]
    return Check(check, variant, FAIL, None, None, None, f"the model's own call raised {type(error).__name__}: {line}")
