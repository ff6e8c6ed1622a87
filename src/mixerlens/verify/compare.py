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


def largest_by_head(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """max |x| over valid tokens and channels: (batch, time, heads, dim) -> (heads,) float64."""
    size = x.abs() if valid is None else x.abs().masked_fill(~valid.to(x.device)[:, :, None, None], 0)
    return size.amax((0, 1, 3)).double()


def difference(
    result: Tensor, reference: Tensor, valid: Tensor | None = None, scale: Tensor | None = None
) -> Difference:
    """Compare (batch, time, heads, dim) tensors on valid tokens, each head relative to its own largest reference.

    valid: bool (batch, time), or None for all tokens. scale: (heads,), what the errors are relative to instead.
    """
    common = torch.promote_types(torch.promote_types(result.dtype, reference.dtype), torch.float32)
    reference = reference.to(result.device, common)
    error, size = (result.to(common) - reference).abs(), reference.abs()
    if valid is not None:
        hidden = ~valid.to(result.device)[:, :, None, None]
        error, size = error.masked_fill(hidden, 0), size.masked_fill(hidden, 0)
    by_head, largest = error.amax((0, 1, 3)).double(), size.amax((0, 1, 3)).double()
    if not (torch.isfinite(by_head) & torch.isfinite(largest)).all():
        _, position, head, _ = (~torch.isfinite(error)).nonzero()[0].tolist()
        which = "result" if torch.isfinite(size[:, position, head]).all() else "reference"
        return Difference(float("nan"), float("nan"), head, position, f"the {which} is NaN or infinite")
    # a head that the reference leaves at zero may differ by what rounding leaves of the others, squared
    floor = torch.finfo(common).eps ** 2 * largest.max()
    scale = largest if scale is None else scale.to(largest.device)
    relative = torch.where(by_head == 0, 0.0, by_head / scale.clamp(min=floor))
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
