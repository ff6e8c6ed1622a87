"""Principle 4, structure: what one A_t can do to a state, and what several of them can in turn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import UnsupportedError
from mixerlens.evolution import (
    Diagonal,
    Fenwick,
    Identity,
    Momentum,
    ReadBeforeWrite,
    Rotation,
    Scalar,
    Shift,
    Trapezoid,
    Unipotent,
)
from mixerlens.principles.parts import MATRICES, keys, matrices, one_run, percent, spaced, spread_text
from mixerlens.principles.record import Condition, Counterexample, Principle

LARGEST = 512  # dimensions of a state whose dense A_t are looked at
BOOKS = (Fenwick, Momentum, ReadBeforeWrite, Shift, Trapezoid, Unipotent)
FLAT = 1e-12  # of |A_t|: a part of A_t below it is rounding
EPS = torch.finfo(torch.float64).eps
MARGIN = 16  # times n eps |A_t| cond(eigenvalue), the first-order error of an eigenvalue


@dataclass(frozen=True, eq=False, kw_only=True)
class StructurePrinciple(Principle):
    """angle: between A_t k and k for the key k of the token before t, degrees, (heads, tokens), NaN where one is zero.
    angle_median, angle_largest: over tokens, (heads,).

    commutator: |A_t A_s - A_s A_t| / (sqrt 2 |A_t'| |A_s'|) of neighbours among ``tokens`` in the Frobenius norm, where
        ' takes the multiple of I away that no commutator sees: 0 where they commute, at most 1, (heads, pairs).
        commutator_median, commutator_largest: (heads,).
    turning: share of the eigenvalues that are certainly not real, their imaginary part being larger than the rounding
        error that their condition number allows, (heads,); phase: the largest |phase| of these, degrees.
    negative: share of tokens with a negative real eigenvalue, least_real: the least real part, (heads,).
    log_det: mean of ln |det A_t|, reflecting: share of tokens with det A_t < 0 (NaN for complex A_t), (heads,).
    """

    tokens: tuple[int, ...]
    angle: Tensor = field(repr=False)
    angle_median: Tensor
    angle_largest: Tensor
    commutator: Tensor = field(repr=False)
    commutator_median: Tensor
    commutator_largest: Tensor
    turning: Tensor
    phase: Tensor
    negative: Tensor
    least_real: Tensor
    log_det: Tensor
    reflecting: Tensor

    number: ClassVar[int] = 4
    title: ClassVar[str] = "Structure"
    headline: ClassVar[str] = "commutator_largest"
    wording: ClassVar[str] = "Scalar, diagonal and Householder A_t limit what a state can be transformed into."
    theorem: ClassVar[str] = (
        "A scalar keeps every direction, a real diagonal turns none of its own axes, and all of these commute, so that "
        "their product does not know their order (x -> a x + b with its write b still may). I - beta w w^T has n - 1 "
        "eigenvalues 1 and one 1 - beta |w|^2, all real: it is a reflection at beta |w|^2 = 2 and never a rotation; a "
        "rotation needs two of them. In finite precision parity needs an eigenvalue that is negative or not real, and "
        "a scalar sign is enough. There one layer needs A_t that do not commute for a group whose elements do not; "
        "several layers of commuting A_t reach solvable groups (S3, S4) but, unless TC0 = NC1, not S5."
    )
    sources: ClassVar[tuple[str, ...]] = (
        "arXiv 2510.09389",
        "arXiv 2411.12537",
        "arXiv 2502.10297",
        "arXiv 2404.08819",
    )
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="A scalar A_t is too poor to track a state.",
            shows="A scalar with a sign, on a state of one number, knows the parity of 4096 bits exactly.",
            code="""\
import torch
from mixerlens import CoefficientDynamics
from mixerlens.evolution import Scalar

bits = torch.randint(0, 2, (1, 4096, 1), generator=torch.Generator().manual_seed(0)).double()
key = torch.zeros(1, 4096, 1, 1, dtype=torch.float64)
key[:, 0] = 1 - 2 * bits[:, 0]
mixer = CoefficientDynamics(torch.ones_like(key), key, Scalar(decay=1 - 2 * bits))
state = (mixer.operator() @ torch.ones_like(key)).flatten()
assert torch.equal((1 - state) / 2, bits.flatten().cumsum(0) % 2)
""",
        ),
        Counterexample(
            against="A group whose elements do not commute needs A_t that do not.",
            shows="Two layers whose A_t are numbers follow 1024 random elements of S3 exactly.",
            code="""\
import math
import torch
from mixerlens import CoefficientDynamics
from mixerlens.evolution import Diagonal

def product(factors):  # one layer: its state is the product of the A_t so far
    decay = factors.to(torch.complex128).reshape(1, -1, 1, 1)
    key = torch.zeros_like(decay)
    key[:, 0] = decay[:, 0]
    one = torch.ones_like(decay)
    return (CoefficientDynamics(one, key, Diagonal(decay=decay)).operator() @ one).flatten()

drawn = torch.randint(0, 6, (1024,), generator=torch.Generator().manual_seed(0))
turn, side = drawn % 3, 1 - 2 * (drawn // 3)  # an element of S3: corner c of a triangle goes to turn + side c
sides = product(side).real.round()
third = 2 * math.pi / 3
turns = (product(torch.exp(1j * third * sides * turn)).angle() / third).round()
found = (sides * (turns + torch.arange(3)[:, None])) % 3
corners, wanted = torch.arange(3), []
for a, e in zip(turn, side):
    corners = (a + e * corners) % 3
    wanted.append(corners)
assert torch.equal(found.T.long(), torch.stack(wanted))
""",
        ),
        Counterexample(
            against="A Householder A_t rotates the state.",
            shows="One is a reflection, with determinant -1 and real eigenvalues; two in turn are a rotation by 0.7.",
            code="""\
import math
import torch
from mixerlens.evolution import Delta

half = 0.7 / 2
normals = torch.tensor([[1.0, 0.0], [math.cos(half), math.sin(half)]], dtype=torch.float64)
mirrors = Delta(normals[None, :, None], torch.full((1, 2, 1), 2.0, dtype=torch.float64))
one = mirrors.step(torch.eye(2, dtype=torch.float64)[None, None], 0)
two = mirrors.step(one, 1)[0, 0]
turn = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]], dtype=torch.float64)
assert float(torch.linalg.det(one)) == -1 and torch.equal(torch.linalg.eigvals(one).imag, torch.zeros(1, 1, 2))
assert float((two - turn).abs().max()) < 1e-15
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "angle_median": "Angle by which A_t turns the key of the token before, the median over tokens.",
        "angle_largest": "The largest of these angles.",
        "commutator_median": "How far neighbouring A_t are from commuting, 0 to 1, the median.",
        "commutator_largest": "The largest of these.",
        "turning": "Share of eigenvalues that are certainly not real: pairs that turn.",
        "phase": "Largest phase of an eigenvalue that is not real.",
        "negative": "Share of tokens whose A_t has a negative eigenvalue.",
        "least_real": "Least real part of an eigenvalue.",
        "log_det": "Mean of ln |det A_t|: volume lost a token.",
        "reflecting": "Share of tokens whose A_t has a negative determinant.",
    }
    units: ClassVar[dict[str, str]] = {
        "angle_median": "degrees",
        "angle_largest": "degrees",
        "commutator_median": "of the largest possible",
        "commutator_largest": "of the largest possible",
        "turning": "share",
        "phase": "degrees",
        "negative": "share of tokens",
        "least_real": "per token",
        "log_det": "nats per token",
        "reflecting": "share of tokens",
    }

    def to_json(self) -> dict[str, Any]:
        """Without the angles and commutators of every token."""
        written = super().to_json()
        del written["angle"], written["commutator"]
        return written


def structure(mixer: Any, *, sequence: int = 0, most: int = 64) -> StructurePrinciple:
    """Principle 4: angles, commutators, eigenvalue phases and determinants of the A_t.

    most: evenly spaced tokens whose dense A_t are looked at, fewer where their numbers would not fit.

    Raises InputError for what is no mixer or a sequence that is not there, UnsupportedError for a state of more than
    512 numbers (a shift register as long as the sequence), whose A_t are not held dense.
    """
    d = one_run(mixer, sequence)
    if d.dim > LARGEST:
        raise UnsupportedError(
            f"structure looks at dense A_t, and these are {d.dim} x {d.dim}: {LARGEST} x {LARGEST} is the largest"
        )
    most = max(2, min(most, MATRICES // (d.heads * d.dim**2)))
    tokens = spaced(1, d.time, most) if d.support.causal else []
    a = matrices(d, tokens)  # (heads, tokens, dim, dim)
    values, error = eigenvalues_of(a)
    angle = _angles(a, keys(d)[:, [t - 1 for t in tokens]])
    commutator = _commutators(a)
    phase = values.angle().abs()
    turning = values.imag.abs() > error
    negative = ~turning & (values.real < -error.clamp(min=FLAT))
    sign, log_det = torch.linalg.slogdet(a)
    there = bool(tokens)
    return StructurePrinciple(
        tokens=tuple(tokens),
        angle=angle,
        angle_median=_median(angle),
        angle_largest=_largest(angle),
        commutator=commutator,
        commutator_median=_median(commutator),
        commutator_largest=_largest(commutator),
        turning=turning.double().mean((-2, -1)),
        phase=_largest(torch.where(turning, phase, 0.0).rad2deg().flatten(1)),
        negative=negative.any(-1).double().mean(-1),
        least_real=values.real.amin((-2, -1)) if there else torch.full((d.heads,), torch.nan).double(),
        log_det=log_det.mean(-1),
        reflecting=(torch.full((d.heads,), torch.nan).double() if a.is_complex() else (sign < 0).double().mean(-1)),
        silent=_silent(d, there),
        meaning=_meaning(angle, commutator, turning, there),
        conditions=_conditions(d, a, values, error, commutator),
    )


def eigenvalues_of(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of matrices (..., n, n), complex, and how far each may be from a true one: both (..., n).

    The error is to first order eps |A| over |y^* x| for unit left and right vectors y and x, and so infinite for an
    eigenvalue that is defective. A Hermitian A (up to rounding) has real eigenvalues, and a triangular one shows its
    own: both are exact here.
    """
    size = torch.linalg.matrix_norm(a)[..., None]
    values, right = torch.linalg.eig(a)
    left, _ = torch.linalg.inv_ex(right)
    condition = right.norm(dim=-2) * left.norm(dim=-1)
    error = MARGIN * a.shape[-1] * EPS * size * condition.nan_to_num(nan=torch.inf)
    hermitian = torch.linalg.matrix_norm(a - a.mH)[..., None] <= 8 * EPS * size
    triangular = ((a.tril(-1) == 0).all((-2, -1)) | (a.triu(1) == 0).all((-2, -1)))[..., None]
    values = torch.where(hermitian, torch.linalg.eigvalsh(a).to(values.dtype), values)
    values = torch.where(triangular, torch.diagonal(a, dim1=-2, dim2=-1).to(values.dtype), values)
    return values, torch.where(hermitian | triangular, 0.0, error)


def _angles(a: Tensor, key: Tensor) -> Tensor:
    """Degrees between A k and k: (heads, tokens). The half-angle form, which small angles do not lose digits in."""
    moved = (a @ key[..., None])[..., 0]
    before, after = (x / x.norm(dim=-1, keepdim=True) for x in (key, moved))
    angle = 2 * torch.atan2((after - before).norm(dim=-1), (after + before).norm(dim=-1))
    return angle.rad2deg()


def _commutators(a: Tensor) -> Tensor:
    """(heads, pairs): sqrt 2 |A| |B| bounds |A B - B A| in the Frobenius norm."""
    trace = torch.diagonal(a, dim1=-2, dim2=-1).mean(-1)[..., None, None]
    rest = a - trace * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    first, second = rest[:, :-1], rest[:, 1:]
    size = torch.linalg.matrix_norm(rest)
    flat = size <= FLAT * torch.linalg.matrix_norm(a)
    bound = math.sqrt(2) * size[:, :-1] * size[:, 1:]
    found = torch.linalg.matrix_norm(first @ second - second @ first)
    return torch.where(flat[:, :-1] | flat[:, 1:], 0.0, found / torch.where(bound > 0, bound, 1.0))


def _median(x: Tensor) -> Tensor:
    return x.nanmedian(-1).values if x.shape[-1] else torch.full(x.shape[:-1], torch.nan, dtype=x.dtype)


def _largest(x: Tensor) -> Tensor:
    if not x.shape[-1]:
        return torch.full(x.shape[:-1], torch.nan, dtype=x.dtype)
    known = torch.where(x.isnan(), -torch.inf, x).amax(-1)
    return torch.where(known.isinf(), torch.nan, known)


def _silent(d: CoefficientDynamics, there: bool) -> str:
    if not there:
        return "no A_t acts on any state: a bidirectional mixer, or a single token"
    if isinstance(d.evolution, Identity):
        return "A_t = I: angles, commutators and phases are 0 and determinants 1 by definition"
    if isinstance(d.evolution, Scalar):
        return "A_t is a number times I: it keeps every direction and commutes with everything"
    return ""


def _all_commute(d: CoefficientDynamics, a: Tensor, commutator: Tensor) -> bool | None:
    """True where the kind of A_t says so, False where two of those looked at do not commute, else not known.

    All pairs are looked at, as A may commute with B and B with C but not A with C.
    """
    if isinstance(d.evolution, Identity | Scalar | Diagonal | Rotation) or d.evolution.time_invariant:
        return True
    if bool((commutator > FLAT).any()):
        return False
    pairs = (_commutators(a[:, [s, t]]) for t in range(a.shape[1]) for s in range(t - 1))
    return False if any(bool((c > FLAT).any()) for c in pairs) else None


def _conditions(
    d: CoefficientDynamics, a: Tensor, values: Tensor, error: Tensor, commutator: Tensor
) -> tuple[Condition, ...]:
    looked = a.shape[1]
    if not looked:
        return ()
    kind = type(d.evolution).__name__
    told = f"{kind} evolution, the same at every token" if d.evolution.time_invariant else f"{kind} evolution"
    turning = values.imag.abs() > error
    gap = (values[..., None] - values[..., None, :]).abs() - error[..., None]
    apart = (gap + torch.diag(torch.full_like(gap[0, 0, 0], torch.inf)) > error[..., None, :]).all(-1)
    real = (values.imag == 0) & ((error == 0) | (apart & (not a.is_complex())))
    every = bool(real.all())
    # what is below 0 is negative or not real, whichever of them
    parity = bool((turning | (values.real < -error.clamp(min=FLAT))).any())
    shares = (mark.double().mean((-2, -1)) for mark in (turning, ~turning & ~real))
    count = "{} are not real, {} not known".format(*map(percent, shares))
    seen = f", {looked} of {d.time - 1} tokens looked at"
    return (
        Condition("all A_t commute", _all_commute(d, a, commutator), told + seen),
        Condition("all eigenvalues are real", False if bool(turning.any()) else every or None, count + seen),
        Condition("an eigenvalue is negative or not real (parity)", parity or (False if every else None), told + seen),
        Condition("no part of A_t is book-keeping (a shift, a lag, a bias)", not isinstance(d.evolution, BOOKS), told),
    )


def _meaning(angle: Tensor, commutator: Tensor, turning: Tensor, there: bool) -> str:
    if not there:
        return "No A_t acts on any state."
    told = [f"{percent(turning.double().mean((-2, -1)))} of the eigenvalues are not real."]
    if not bool(commutator.isnan().all()):
        far = spread_text(_largest(commutator), least=FLAT)
        told.insert(0, f"neighbours fail to commute by {far} of the largest possible")
    if not bool(angle.isnan().all()):
        turned = spread_text(_median(angle), least=1e-6)
        told.insert(0, f"A_t turns the key of the token before by {turned} degrees (median)")
    return "; ".join(told)
