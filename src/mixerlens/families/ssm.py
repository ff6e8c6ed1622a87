"""State space models: S4D, Mamba-1, Mamba-2."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.families.checks import forgets, positive, tensors
from mixerlens.families.family import Family, register
from mixerlens.readout import RealPart
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["held", "mamba", "mamba2", "s4d"]


def s4d(
    A: Complex[Tensor, "features modes"],
    B: Complex[Tensor, "features modes"],
    C: Complex[Tensor, "features modes"],
    dt: Float[Tensor, " features"],
    length: int,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """x_t = exp(dt A) x_{t-1} + (exp(dt A) - 1) / A * B u_t, y_t = 2 Re(C x_t): one system a feature, zero-order hold.

    A, B, C complex (features, modes), Re A < 0, C unconjugated; dt (features,). A head a feature: values
    (batch, time, features, 1). Batch 1, broadcasts over the batch of the values. D is not included. alpha depends on
    i - j only; state 2 modes real numbers a feature. Source: arXiv 2206.11893.
    """
    tensors(A=A, B=B, C=C, dt=dt)
    if not A.dim() == B.dim() == C.dim() == 2 or dt.dim() != 1 or dt.shape[0] != A.shape[0]:
        shapes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in (("A", A), ("B", B), ("C", C), ("dt", dt)))
        raise InputError(f"A, B, C must be (features, modes) and dt (features,): got {shapes}")
    if not bool((A.real < 0).all()):
        raise InputError(f"Re A must be negative, its largest value is {float(A.real.max())}")
    key = (held(wide(A), wide(dt)) * wide(B)).to(torch.promote_types(A.dtype, B.dtype))
    return CoefficientDynamics(
        query=C[None, None],
        key=key[None, None],
        evolution=Diagonal(rate=wide(A), step_size=wide(dt)),
        readout=RealPart(2.0),
        support=Support(segments=segments),
        length=length,
    )


def held(A: Inexact[Tensor, "features modes"], dt: Float[Tensor, " features"]) -> Inexact[Tensor, "features modes"]:
    """(exp(dt A) - 1) / A, what a zero-order hold of step dt injects; its limit dt for a mode that neither decays nor
    turns or whose dt A underflows, and dt + dt^2 A / 2, right to the last digit, near it.
    """
    z = A * dt[:, None]
    near = z.abs() < 1e-8
    grown = expm1(z) if z.is_complex() else torch.special.expm1(z)
    return torch.where(near, dt[:, None] * (1 + z / 2), grown / torch.where(near, 1, A))


def expm1(z: Complex[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
    """exp(z) - 1 for complex z: no cancellation at small |z|, no overflow at very negative Re z."""
    grown = torch.special.expm1(z.real)
    half = torch.sin(z.imag / 2)
    return torch.complex(grown * torch.cos(z.imag) - 2 * half * half, (grown + 1) * torch.sin(z.imag))


def mamba(
    A: Float[Tensor, "channels state"],
    B: Inexact[Tensor, "batch time state"],
    C: Inexact[Tensor, "batch time state"],
    dt: Float[Tensor, "batch time channels"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t, y_t = C_t^T h_t: Mamba-1 (S6), one head a channel.

    A (channels, state): the real negative matrix itself, not its log. dt (batch, time, channels) after softplus, bias
    and clamp. B, C (batch, time, state). Values (batch, time, channels, 1). D and z are not included. State ``state``
    numbers a channel; B and C are shared by all channels and never repeated. Source: arXiv 2312.00752.
    """
    tensors(A=A, B=B, C=C, dt=dt)
    if A.dim() != 2 or B.dim() != 3 or C.dim() != 3 or dt.dim() != 3 or dt.shape[-1] != A.shape[0]:
        shapes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in (("A", A), ("B", B), ("C", C), ("dt", dt)))
        raise InputError(f"A (channels, state), B and C (batch, time, state), dt (batch, time, channels): got {shapes}")
    _contracts(A, dt)
    return CoefficientDynamics(
        query=C[:, :, None],
        key=B[:, :, None],
        scaling=dt,
        evolution=Diagonal(rate=A, step_size=dt),
        support=Support(segments=segments),
    )


def mamba2(
    A: Float[Tensor, " heads"],
    B: Inexact[Tensor, "batch time groups state"],
    C: Inexact[Tensor, "batch time groups state"],
    dt: Float[Tensor, "batch time heads"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t^T, y_t = h_t^T C_t: Mamba-2 (SSD), a scalar decay a head.

    A (heads,) negative; dt (batch, time, heads) after softplus, bias and clamp; B, C (batch, time, groups, state),
    groups dividing heads. Values (batch, time, heads, head_dim). D and z are not included. State ``state`` numbers a
    value channel. Source: arXiv 2405.21060.
    """
    tensors(A=A, B=B, C=C, dt=dt)
    if A.dim() != 1 or B.dim() != 4 or C.dim() != 4 or dt.dim() != 3 or dt.shape[-1] != A.shape[0]:
        shapes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in (("A", A), ("B", B), ("C", C), ("dt", dt)))
        raise InputError(f"A (heads,), B and C (batch, time, groups, state), dt (batch, time, heads): got {shapes}")
    _contracts(A, dt)
    log_decay = wide(dt) * wide(A)  # the product in float64: it is exponentiated over long products
    return CoefficientDynamics(
        query=C, key=B, scaling=dt, evolution=Scalar(log_decay=log_decay), support=Support(segments=segments)
    )


def _contracts(A: Tensor, dt: Tensor) -> None:
    """exp(dt A) is a decay: A <= 0 and dt >= 0."""
    forgets("A", A, "pass the matrix itself, -exp(A_log)")
    positive("dt", dt)


register(
    Family(
        name="s4d",
        title="S4D",
        function=s4d,
        example=lambda d: {
            "A": torch.complex(-d.uniform(d.heads, d.dim, low=0.1), 3 * d.normal(d.heads, d.dim)),
            "B": d.complex(d.heads, d.dim),
            "C": d.complex(d.heads, d.dim),
            "dt": d.uniform(d.heads, low=0.01, high=0.3),
            "length": d.time,
            "value": d.values(1),
        },
        evolution="Diag(exp(dt A)), complex, constant",
        key="(exp(dt A) - 1) / A B ; C",
        readout="2 Re",
        state="2 N",
        source="arXiv 2206.11893",
        note="a head a channel; alpha depends on i - j only",
    ),
    Family(
        name="mamba",
        title="Mamba-1 (S6)",
        function=mamba,
        example=lambda d: {
            "A": -d.uniform(d.heads, d.dim, low=0.1, high=4),
            "B": d.normal(d.batch, d.time, d.dim),
            "C": d.normal(d.batch, d.time, d.dim),
            "dt": d.gates(high=0.5),
            "value": d.values(1),
        },
        evolution="Diag(exp(dt_t A))",
        key="dt B ; C",
        state="N",
        source="arXiv 2312.00752",
        note="a head a channel",
    ),
    Family(
        name="mamba2",
        title="Mamba-2 (SSD)",
        function=mamba2,
        example=lambda d: {
            "A": -d.uniform(d.heads, low=0.1, high=4),
            "B": d.vectors(heads=1),
            "C": d.vectors(heads=1),
            "dt": d.gates(high=0.5),
            "value": d.values(),
        },
        evolution="exp(dt_t A) I",
        key="dt B ; C",
        state="n",
        source="arXiv 2405.21060",
    ),
)
