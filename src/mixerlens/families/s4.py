"""State space models of one input and one output a feature: S4 with its low-rank correction, DSS without."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Diagonal, DiagonalPlusRankOne
from mixerlens.families.checks import tensors
from mixerlens.families.family import Family, register
from mixerlens.families.ssm import expm1
from mixerlens.readout import RealPart
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["dss", "legs_normal_plus_low_rank", "s4"]


def s4(
    A: Complex[Tensor, "features modes"],
    P: Complex[Tensor, "features modes"],
    B: Complex[Tensor, "features modes"],
    C: Complex[Tensor, "features modes"],
    dt: Float[Tensor, " features"],
    length: int,
    Q: Complex[Tensor, "features modes"] | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """x' = (Diag(A) - P Q^*) x + B u, y = 2 Re(C x), bilinear in steps dt: one system a feature, current u included.

    A, P, B, C, Q complex (features, modes), one of every conjugate pair of modes: the system is that of the modes and
    their conjugates together, which the low-rank term couples. Q is P unless given (and then the system is stable for
    Re A <= 0). C is the system's own C, unconjugated: implementations that store C (I - A^L) undo that first. dt
    (features,) > 0. A head a feature, values (batch, time, features, 1); D is not included.

    The step is Cayley's, (I - dt/2 M)^{-1} (I + dt/2 M) = -I + 2 (I - dt/2 M)^{-1} with M the matrix above, diagonal
    plus rank one by Sherman-Morrison; M is never diagonalised. alpha depends on i - j only; state 2 modes real numbers
    a feature, held as 2 modes complex ones, the second half the conjugates. Source: arXiv 2111.00396.
    """
    Q = P if Q is None else Q
    _system(dt, A=A, P=P, B=B, C=C, Q=Q)
    diagonal, p, b, q = (wide(x) for x in (A, P, B, Q))  # one of each pair; a sum over pairs is twice a real part
    step = wide(dt)[:, None]
    resolvent = 1 / (1 - step / 2 * diagonal)
    # (I - dt/2 M)^{-1} = Diag(resolvent) - g (conj(q) resolvent)^T, of rank one beside the diagonal
    right = q.conj() * resolvent
    g = step / 2 * resolvent * p / (1 + step * (right * p).real.sum(-1, keepdim=True))
    key = step * (resolvent * b - 2 * g * (right * b).real.sum(-1, keepdim=True))
    dtype = torch.promote_types(B.dtype, C.dtype)
    return CoefficientDynamics(
        query=_pairs(wide(C)).to(dtype)[None, None],
        key=_pairs(key).to(dtype)[None, None],
        evolution=DiagonalPlusRankOne(left=_pairs(-2 * g), right=_pairs(right), decay=_pairs(2 * resolvent - 1)),
        readout=RealPart(),
        support=Support(segments=segments),
        length=length,
    )


def legs_normal_plus_low_rank(
    state: int,
) -> tuple[Complex[Tensor, " modes"], Complex[Tensor, " modes"], Complex[Tensor, " modes"]]:
    """A, P, B of HiPPO-LegS with ``state`` numbers (even) in the unitary basis that makes its normal part diagonal.

    -LegS + p p^T with p_n = sqrt(n + 1/2) is -1/2 I plus a skew-symmetric matrix, whose eigenvectors V are unitary: A
    its eigenvalues with positive imaginary part, P = V^* p, B = V^* b with b_n = sqrt(2 n + 1), complex128, one of each
    conjugate pair. A real read-out c^T of LegS is C = c^T V. LegS itself has the eigenvalues 1 .. state and
    eigenvectors whose condition number passes 1e16 at 24 numbers: a kernel through them has no correct digit there. Its
    eigenvalues are as sensitive: in this basis those of the sampled matrix come out about 1e-6 off at 16 numbers and
    0.04 off at 32, while kernels and states keep their digits. Source: arXiv 2111.00396.
    """
    if state < 2 or state % 2:
        raise InputError(f"state is {state}: conjugate pairs need an even number of at least 2")
    n = torch.arange(state, dtype=torch.float64)
    b = torch.sqrt(2 * n + 1)
    skew = -torch.tril(b[:, None] * b, -1) / 2
    # i times a skew-symmetric matrix is Hermitian: eigh gives an orthonormal basis
    values, V = torch.linalg.eigh(1j * (skew - skew.mT))
    half = slice(0, state // 2)  # ascending, so these are the negative ones: -i lambda has positive imaginary part
    A = torch.complex(torch.full((state // 2,), -0.5, dtype=torch.float64), -values[half])
    into = V[:, half].mH
    return A, into @ (b / math.sqrt(2)).to(V.dtype), into @ b.to(V.dtype)


def dss(
    A: Complex[Tensor, "features modes"],
    weight: Complex[Tensor, "features modes"],
    dt: Float[Tensor, " features"],
    length: int,
    normalized: int | None = None,
    epsilon: float = 0.0,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = Re sum_n w_n / A_n sum_l k_n(l) v_{i-l}, k_n(l) = exp(l dt A_n) / sum_{r < L} exp(r dt A_n): DSS-softmax.

    A, weight w complex (features, modes), dt (features,) > 0. normalized: L, the lags over which a mode's kernel sums
    to one, by default ``length``: the coefficients depend on the length the kernel was made for, not on i - j alone.
    Re A > 0 is legal: such a mode grows up to the L-th lag and is as large as exp(-(L - 1) dt Re A) at the first.
    epsilon: the released code replaces 1 / d by conj(d) / (|d|^2 + epsilon), d = A (exp(L z) - 1) with z = dt A, or
    -dt A where that grows; 0 is the definition. The read-out is Re and not 2 Re, as released: the modes are no halves
    of pairs. DSS-exp is `s4d` with B = 1 and half the weights. A head a feature, values (batch, time, features, 1); D
    is not included. State 2 modes real numbers a feature. Source: arXiv 2203.14343.

    Raises InputError where epsilon is 0 and a mode's sum too, to fewer than six digits (exp(L dt A) = 1), or where a
    growing mode leaves the range of float64.
    """
    _system(dt, A=A, weight=weight)
    size = length if normalized is None else normalized
    if size < length:
        raise InputError(f"the kernel is normalised over {size} lags and used over {length}: give normalized >= length")
    rate, step = wide(A), wide(dt)
    exponent = rate * step[:, None]
    growing = exponent.real > 0
    if bool((size * exponent.real > 700).any()):
        raise InputError(
            f"a mode grows by exp({float((size * exponent.real).max()):.0f}) over {size} lags, "
            "beyond float64: shorten the sequence or lower dt Re A"
        )
    decaying = torch.where(growing, -exponent, exponent)
    whole = expm1(size * decaying)
    if epsilon == 0 and bool((whole.abs() < 1e-10 * (size * decaying).abs()).any()):
        raise InputError(
            f"the kernel of a mode sums to zero over {size} lags to the rounding of dt A (exp(L dt A) = 1): "
            "give another normalized, or the epsilon the model was trained with"
        )
    total = rate * whole
    share = expm1(decaying) * total.conj() / (total.abs() ** 2 + epsilon)
    share = share * torch.where(growing, torch.exp(-(size - 1) * exponent), 1)
    return CoefficientDynamics(
        query=weight[None, None],
        key=share.to(weight.dtype)[None, None],
        evolution=Diagonal(rate=rate, step_size=step),
        readout=RealPart(),
        support=Support(segments=segments),
        length=length,
    )


def _system(dt: Tensor, **given: Tensor) -> None:
    """Raise InputError unless all are complex (features, modes) and dt (features,) positive."""
    tensors(dt=dt, **given)
    shape = given["A"].shape
    if len(shape) != 2 or dt.shape != shape[:1] or any(x.shape != shape for x in given.values()):
        shapes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in (*given.items(), ("dt", dt)))
        raise InputError(f"{', '.join(given)} must be (features, modes) and dt (features,): got {shapes}")
    real = [name for name, x in given.items() if not x.is_complex()]
    if real:
        raise InputError(f"{real[0]} is {given[real[0]].dtype}: it must be complex, one of each conjugate pair")
    if not bool((dt > 0).all()):
        raise InputError(f"dt must be positive, its smallest value is {float(dt.min()):.3g}: pass exp(log_dt)")


def _pairs(x: Tensor) -> Tensor:
    """The modes and their conjugates."""
    return torch.cat([x, x.conj()], -1)


register(
    Family(
        name="s4",
        title="S4",
        function=s4,
        example=lambda d: {
            "A": torch.complex(-d.uniform(d.heads, d.dim, low=0.1), 3 * d.normal(d.heads, d.dim)),
            **{name: d.complex(d.heads, d.dim) for name in ("P", "B", "C")},
            "dt": d.uniform(d.heads, low=0.01, high=0.3),
            "length": d.time,
            "value": d.values(1),
        },
        evolution="-I + 2 (I - dt/2 (Diag(A) - P P^*))^{-1}, diagonal + rank one",
        key="dt (I - dt/2 (Diag(A) - P P^*))^{-1} B ; C",
        readout="2 Re",
        state="2 N",
        source="arXiv 2111.00396",
        note="a head a channel; bilinear; alpha depends on i - j only",
    ),
    Family(
        name="dss",
        title="DSS (softmax)",
        function=dss,
        example=lambda d: {
            "A": torch.complex(d.uniform(d.heads, d.dim, low=-1, high=0.2), 3 * d.normal(d.heads, d.dim)),
            "weight": d.complex(d.heads, d.dim),
            "dt": d.uniform(d.heads, low=0.01, high=0.3),
            "length": d.time,
            "normalized": d.time + 7,
            "value": d.values(1),
        },
        evolution="Diag(exp(dt A)), complex, constant",
        key="(exp(dt A) - 1) / A / (exp(L dt A) - 1) ; w",
        readout="Re",
        state="2 N",
        source="arXiv 2203.14343",
        note="a head a channel; each mode's kernel sums to 1 / A over the L lags it was made for",
    ),
)
