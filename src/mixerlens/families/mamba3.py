"""Mamba-3: a trapezoidal rule, so that a token is written at its own step and once more at the next."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Rotation, Scalar, Trapezoid
from mixerlens.families.checks import forgets, positive, tensors
from mixerlens.families.family import Family, register
from mixerlens.shapes import spread, wide
from mixerlens.support import Support

__all__ = ["mamba3"]


def mamba3(
    A: Float[Tensor, "#batch #time heads"],
    B: Float[Tensor, "batch time groups state"],
    C: Float[Tensor, "batch time groups state"],
    dt: Float[Tensor, "batch time heads"],
    trapezoid: Float[Tensor, "batch time heads"],
    angle: Float[Tensor, "batch time heads pairs"] | None = None,
    layout: str = "interleaved",
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """h_t = a_t R_t h_{t-1} + (1 - w_t) dt_t a_t R_t B_{t-1} u_{t-1}^T + w_t dt_t B_t u_t^T, y_t = h_t^T C_t: Mamba-3.

    a_t = exp(dt_t A_t), R_t the turn by -angle_t. A (heads,) or (batch, time, heads), not positive, the number itself;
    dt (batch, time, heads) after softplus; trapezoid: w in [0, 1], after the sigmoid: 1 is Mamba-2's rule, 1/2 the
    trapezoidal one. B, C (batch, time, groups, state) after norm and bias, not rotated, groups dividing heads.
    angle (batch, time, heads | 1, pairs) in radians a token, with dt in it; pairs <= state / 2, the rest does not turn.
    layout: "interleaved" pairs dimension 2 p with 2 p + 1 (the model with one input), "half" p with p + state / 2 (with
    several). Values u (batch, time, heads, head_dim); D and z are not included. The model turns B and C by the angles
    so far instead, which is the same. State twice ``state`` numbers a value channel: h and the pending B_t, which
    are read together, so that the state rank is ``state``. With R inputs and R outputs (MIMO) it is R x R such mixers
    that share A_t and differ in B and C. Source: arXiv 2603.15569.
    """
    tensors(A=A, B=B, C=C, dt=dt, trapezoid=trapezoid)
    if A.dim() not in (1, 3) or B.dim() != 4 or C.dim() != 4 or dt.dim() != 3 or trapezoid.shape != dt.shape:
        named = (("A", A), ("B", B), ("C", C), ("dt", dt), ("trapezoid", trapezoid))
        shapes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in named)
        raise InputError(
            "A must be (heads,) or (batch, time, heads), B and C (batch, time, groups, state), "
            f"dt and trapezoid (batch, time, heads): got {shapes}"
        )
    forgets("A", A, "pass the number itself, -softplus(...)")
    positive("dt", dt)
    if bool(((trapezoid < 0) | (trapezoid > 1)).any()):
        low, high = float(trapezoid.min()), float(trapezoid.max())
        raise InputError(f"trapezoid must lie between 0 and 1, it reaches from {low:.3g} to {high:.3g}: pass a sigmoid")
    log_decay, heads = wide(dt) * wide(A), dt.shape[-1]
    if angle is None:
        turn = Scalar(log_decay=log_decay)
    else:
        free = B.shape[-1] - 2 * angle.shape[-1]
        if free < 0 or B.shape[-1] % 2:
            raise InputError(
                f"{angle.shape[-1]} angles turn {2 * angle.shape[-1]} of {B.shape[-1]} dimensions: "
                "the state must be even and hold them all"
            )
        turn = Rotation(-pad(wide(angle), (0, free // 2)), layout, log_decay=log_decay)
    key = spread(B, heads, 2)
    now = (trapezoid * dt)[..., None]
    return CoefficientDynamics(
        query=torch.cat([C, torch.zeros_like(C)], -1),
        key=torch.cat([now * key, key.expand(*key.shape[:2], now.shape[2], -1)], -1),
        evolution=Trapezoid(turn, gain=(1 - wide(trapezoid)) * wide(dt)),
        support=Support(segments=segments),
    )


register(
    Family(
        name="mamba3",
        title="Mamba-3",
        function=mamba3,
        example=lambda d: {
            "A": -d.gates(low=0.1, high=2),
            "B": d.vectors(6, heads=1),
            "C": d.vectors(6, heads=1),
            "dt": d.gates(high=0.5),
            "trapezoid": d.gates(),
            "angle": d.normal(d.batch, d.time, d.heads, 2),
            "value": d.values(),
        },
        evolution="[[a R, (1 - w) dt a R], [0, 0]]",
        key="(w dt B, B) ; (C, 0)",
        state="2 n",
        source="arXiv 2603.15569",
        note="h and the pending token, read together: state rank n; MIMO is several such mixers with one A_t",
    ),
)
