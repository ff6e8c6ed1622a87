"""What the mixer does with its values: the same every time, finite, linear, and alike in every channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixerlens.membership.probe import Probe
from mixerlens.membership.record import Finding

FACTORS = (2.0, 1024.0, 1 / 1024)  # powers of two: a linear map in floating point obeys them without rounding
ROUNDED = 0.02  # more than bfloat16 is off by


def relative(difference: Tensor, of: Tensor) -> float:
    """|difference| / |of|, and 0 where both are."""
    top, bottom = float(torch.linalg.vector_norm(difference)), float(torch.linalg.vector_norm(of))
    return 0.0 if top == 0 else top / bottom if bottom > 0 else float("inf")


def steady(probe: Probe) -> list[Finding]:
    """Two calls with the same input: finite, and equal."""
    value = probe.values()
    given = f"normal values {tuple(value.shape)}, seed {probe.seed}"
    first, second = probe(value), probe(value)
    bad = ~torch.isfinite(first)
    count = int(bad.sum())
    where = f", first at {bad.nonzero()[0].tolist()} (batch, time, heads, channel)" if count else ""
    finite = Finding(
        "finite",
        "unclear" if count else "holds",
        f"y is {'not finite' + where if count else 'finite'}",
        {"numbers that are not": count},
        "0",
        given,
    )
    if count:
        return [finite]
    moved = relative(second - first, first)
    same = moved <= probe.exact
    told = "the same input gives the same y" if same else "y changes between calls: switch dropout off (module.eval())"
    return [finite, Finding("deterministic", "holds" if same else "unclear", told, {"change": moved}, "0", given)]


def linear(probe: Probe) -> list[Finding]:
    """f(v1 + v2) = f(v1) + f(v2) and f(c v) = c f(v), query, key and gates fixed. A violation refutes.

    Every member is linear in its values, so a violation is a proof. For c a power of two a linear map in floating
    point makes no error at all; what c = 3 shows is then the mixer's own rounding, and raises the bars of all tests.
    """
    a, b = probe.values(), probe.values()
    at_a, at_b, at_sum, at_zero = probe(a), probe(b), probe(a + b), probe(torch.zeros_like(a))
    scaled = max(relative(probe(c * a) - c * at_a, c * at_a) for c in FACTORS)
    rounding = relative(probe(3 * a) - 3 * at_a, 3 * at_a)
    if scaled <= probe.exact and rounding <= ROUNDED:
        probe.precision = max(probe.precision, rounding)
    scaled = max(scaled, rounding)
    given = f"two sets of normal values {tuple(a.shape)}, seed {probe.seed}"
    defect = relative(at_sum - at_a - at_b, at_sum)
    bent = relative(at_sum - at_a - at_b + at_zero, at_sum)
    if not bool((at_a - at_zero).any()) and bool(at_a.any()):
        why = "y does not depend on the values: it is not a sum of alpha_ij v_j"
    elif defect > probe.clear >= bent:
        why = "a constant is added: y(v) - y(0) is linear, ask about that"
    else:
        why = "the values pass through a nonlinear function"
    additive = {"defect": defect, "without y(0)": bent}
    return [
        _linearity(probe, "additive", additive, "f(v1 + v2) = f(v1) + f(v2)", why, given),
        _linearity(
            probe, "homogeneous", {"defect": scaled}, "f(c v) = c f(v)", why, f"{given}; c = 2, 3, 1024, 1/1024"
        ),
    ]


def _linearity(probe: Probe, test: str, numbers: dict[str, Any], law: str, why: str, given: str) -> Finding:
    defect = numbers["defect"]
    if defect <= probe.exact:
        outcome, told = "holds", f"{law} to rounding"
    elif defect > probe.clear:
        outcome, told = "refutes", f"not {test} in v: {why}"
    else:
        outcome, told = "unclear", f"{law} fails by more than rounding and less than clearly"
    bar = f"member <= {probe.exact:.0e}, none > {probe.clear:.0e}"
    return Finding(test, outcome, told, numbers, bar, given)


def channels(probe: Probe) -> Finding:
    """Whether one alpha_ij serves every channel of a head and heads stay apart: "holds", or "note" if matrix valued.

    Values that are one random number a token times one random direction c come out along c, and in no other head, if
    and only if each coefficient has c as an eigenvector: for a random c, if it is a multiple of the identity.
    """
    worst = 0.0
    for head in range(probe.heads):
        direction = probe.normal(probe.width)
        value = torch.zeros_like(probe.values())
        value[:, :, head] = probe.normal(probe.batch, probe.time, 1) * direction
        y = probe(value)
        along = torch.zeros_like(y)
        unit = (direction / torch.linalg.vector_norm(direction)).to(y.dtype)
        along[:, :, head] = (y[:, :, head] @ unit)[..., None] * unit
        worst = max(worst, relative(y - along, y))
    outcome = "holds" if worst <= probe.exact else "note" if worst > probe.clear else "unclear"
    told = {
        "holds": "every channel of a head is mixed by the same alpha, and heads do not mix",
        "note": "channels or heads mix: the coefficients are matrices",
        "unclear": "channels or heads mix by more than rounding and less than clearly",
    }[outcome]
    bar = f"scalar <= {probe.exact:.0e}, matrix > {probe.clear:.0e}"
    given = f"values with one direction of {probe.width} channels, in one head at a time"
    return Finding("channels", outcome, told, {"off direction": worst}, bar, given)
