"""From a layer to its ring: what the modes of each kind of evolution are.

| evolution | modes | ring |
|---|---|---|
| Diagonal (S4D, DSS, Mamba-1, complex gates) | as they are | circulant; with a step a token, a warped clock |
| Rotation (RetNet, Mamba-3's turns) | x_0 + i x_1 of every plane | circulant |
| Scalar, Identity (Mamba-2, linear attention) | all alike | circulant without coupling |
| Dense, constant (LinOSS) | eigenvectors | circulant, two nodes an oscillator |
| DiagonalPlusRankOne (S4), Delta (DeltaNet) | as they are | circulant plus a rank-one scatterer |
| Trapezoid (Mamba-3) | those of the evolution inside | that ring; every input enters twice |

A layer with a head a mode (S5, LRU, LinOSS) becomes one ring of all of them: B says how its inputs drive them, C how
they are read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import (
    Delta,
    Dense,
    Diagonal,
    DiagonalPlusRankOne,
    Evolution,
    Identity,
    Rotation,
    Scalar,
    Trapezoid,
)
from mixerlens.measures.parts import dynamics_of
from mixerlens.normalizer import NoNormalizer
from mixerlens.operator.oracle import oracle
from mixerlens.readout import Identity as IdentityReadout
from mixerlens.readout import RealPart
from mixerlens.ring.network import RingNetwork
from mixerlens.shapes import spread, wide

__all__ = ["from_modes", "from_ssm"]

TOLERANCE = 1e-10  # of the comparison at construction, relative to the layer's largest output
COMPARED = 64  # tokens of it
WORST_BASIS = 1e8  # condition number of eigenvectors beyond which a diagonal form is refused


def from_ssm(
    layer: Any,
    *,
    B: Inexact[Tensor, "heads inputs"] | None = None,
    C: Inexact[Tensor, "outputs heads"] | None = None,
    scale: float | None = None,
    order: str = "frequency",
) -> RingNetwork:
    """The ring network of a layer, compared with the layer before it is handed out.

    layer: an `models.s4d.S4D` module, a mixer call of a trace, or a CoefficientDynamics with a linear readout and no
    row sum: a ring a head, N nodes where the head's state has N modes. B and C, given together, join all heads in one
    ring: head m is driven by (B u)_m and the outputs are scale Re(C x), complex where scale is None: S5
    (scale 2 for one mode of each pair), LRU and LinOSS are that.
    order: "frequency" sorts the modes around the ring, "given" leaves them as they are. D u is not included.

    The comparison runs 64 tokens of seeded noise (fewer where the layer changes with the token and has fewer) through
    the network, in its nodes, and through the library's float64 oracle, the recurrence as the equation writes it;
    `error` keeps the difference, relative to each ring's largest output. Raises UnsupportedError for a kind of
    evolution that is not written as a ring here or where the difference exceeds 1e-10, InputError for shapes that do
    not fit.
    """
    if order not in ("frequency", "given"):
        raise InputError(f"order is {order!r}: use 'frequency', or 'given' and RingNetwork.reordered for any other")
    dynamics = dynamics_of(_module(layer))
    _linear(dynamics)
    ring = _modes(dynamics)
    if (B is None) != (C is None):
        raise InputError("give B and C together: what drives the modes and what reads them")
    if B is not None and C is not None:
        if isinstance(dynamics.readout, RealPart):
            raise UnsupportedError(
                "B and C join heads whose states are read whole: this layer's readout takes real parts"
            )
        ring = _joined(ring, B, C, scale)
    if order == "frequency":
        ring = ring.sorted()
    error = _difference(ring, dynamics, B, C)
    if not error <= TOLERANCE:
        raise UnsupportedError(
            f"the ring differs from the layer by {error:.1e} of its largest output, more than {TOLERANCE:.0e}: "
            "its modes are too ill conditioned for float64"
        )
    return replace(ring, error=error)


def from_modes(
    A: Inexact[Tensor, "rings nodes"],
    B: Inexact[Tensor, "rings nodes"],
    C: Inexact[Tensor, "rings nodes"],
    dt: Inexact[Tensor, " rings"],
    *,
    sampling: str = "zoh",
    scale: float = 2.0,
) -> RingNetwork:
    """The ring of x' = A x + B u, y = scale Re(C x), sampled in steps dt, in the order given.

    sampling: "zoh" holds the input over a step, b = (exp(dt A) - 1) / A B; "bilinear" is the trapezoidal rule, with
    the multiplier (1 + z / 2) / (1 - z / 2), z = dt A, and b = dt B / (1 - z / 2); "impulse" b = dt B, which keeps the
    injection at one node where B = 1. Bilinear steps bend the frequencies, so that even equally spaced ones disperse.

    Raises InputError for shapes that do not fit or another sampling.
    """
    if A.dim() != 2 or A.shape != B.shape or A.shape != C.shape or dt.shape != A.shape[:1]:
        shapes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in (("A", A), ("B", B), ("C", C), ("dt", dt)))
        raise InputError(f"A, B, C must be (rings, nodes) and dt (rings,): got {shapes}")
    A, B, C = (wide(x).to(torch.complex128) for x in (A, B, C))
    step = wide(dt)[:, None]
    z = A * step
    if sampling == "bilinear":
        diagonal, b = Diagonal(decay=((1 + z / 2) / (1 - z / 2))[None, None]), step * B / (1 - z / 2)
    elif sampling in ("zoh", "impulse"):
        diagonal = Diagonal(rate=A, step_size=wide(dt))
        b = step * B if sampling == "impulse" else _held(z) * step * B
    else:
        raise InputError(f"sampling is {sampling!r}: use 'zoh', 'bilinear' or 'impulse'")
    return RingNetwork(diagonal, b[None, None, ..., None], C[None, None, :, None], scale=scale)


def _held(z: Tensor) -> Tensor:
    """(exp(z) - 1) / z, 1 at z = 0."""
    from mixerlens.families.ssm import expm1

    return torch.where(z == 0, 1, expm1(z) / torch.where(z == 0, 1, z))


def _module(layer: Any) -> Any:
    from mixerlens.families import s4d
    from mixerlens.models.s4d import S4D

    if not isinstance(layer, S4D):
        return layer
    with torch.no_grad():
        return s4d(**layer.parameters_for_family(), length=COMPARED)


def _linear(d: CoefficientDynamics) -> None:
    if not isinstance(d.readout, IdentityReadout | RealPart) or not isinstance(d.normalizer, NoNormalizer):
        raise UnsupportedError(
            f"a ring is linear: readout {type(d.readout).__name__} with normaliser {type(d.normalizer).__name__} is not"
        )
    if not d.support.causal or d.support.segments is not None or d.support.window is not None:
        raise UnsupportedError(
            "a ring runs forward over one sequence: no window, no segments, no bidirectional support"
        )


def _modes(d: CoefficientDynamics) -> RingNetwork:
    """The network of every head, in the modes' own order."""
    b, c = wide(d.key), wide(d.query)
    b = b if d.scaling is None else wide(d.scaling)[..., None] * b
    late = None
    if isinstance(d.evolution, Trapezoid):
        now, late = b.chunk(2, -1)
        c, pending = c.chunk(2, -1)
        if bool((pending != 0).any()):
            raise UnsupportedError("a query that reads what is still pending is not written as a ring here")
        gain = wide(d.evolution.gain)
        gain = gain if gain.shape[1] == 1 else torch.cat([gain[:, 1:], torch.zeros_like(gain[:, :1])], 1)
        late = spread(late, gain.shape[2], 2) * gain[..., None]
        _, late, *_ = _parts(d.evolution.inner, late, c)
        diagonal, b, c, left, right = _parts(d.evolution.inner, now, c)
    else:
        diagonal, b, c, left, right = _parts(d.evolution, b, c)
    complex_result = d.dtype.is_complex and not isinstance(d.readout, RealPart)
    scale = d.readout.scale if isinstance(d.readout, RealPart) else None if complex_result else 1.0

    def full(x: Tensor, *size: int) -> Tensor:
        x = spread(x, d.heads, 2)
        return x.expand(*x.shape[:2], d.heads, *size)

    def vectors(x: Tensor) -> Tensor:
        return full(x, b.shape[-1]).to(torch.complex128)

    own = {
        name: full(wide(x), *(() if name == "step_size" else (b.shape[-1],))) for name, x in diagonal.tensors().items()
    }
    return RingNetwork(
        Diagonal(**own),
        vectors(b)[..., None],
        vectors(c)[..., None, :],
        None if left is None else vectors(left),
        None if right is None else vectors(right),
        None if late is None else vectors(late),
        scale,
    )


Parts = tuple[Diagonal, Tensor, Tensor, Tensor | None, Tensor | None]


def _parts(e: Evolution, b: Tensor, c: Tensor) -> Parts:
    """The diagonal part in the modes' basis, key and query there, and what is left over, left right^T."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64, device=b.device)
    if isinstance(e, Diagonal):
        return e, b, c, None, None
    if isinstance(e, Identity):
        return Diagonal(decay=one), b, c, None, None
    if isinstance(e, Scalar):
        return Diagonal(decay=_gate(e)), b, c, None, None
    if isinstance(e, Rotation):
        # R turns (x_0, x_1) as exp(i angle) turns x_0 + i x_1, and q_0 x_0 + q_1 x_1 = Re((q_0 - i q_1)(x_0 + i x_1))
        log = 0 if e.scalar is None else torch.log(_gate(e.scalar).to(torch.complex128))
        turn = Diagonal(log_decay=log + 1j * wide(e.angle))
        return turn, _planes(b, e.layout), _planes(c, e.layout).conj(), None, None
    if isinstance(e, DiagonalPlusRankOne):
        return e.diagonal or Diagonal(decay=one), b, c, wide(e.left), wide(e.right)
    if isinstance(e, Delta):
        w = wide(e.direction)
        gate = one if e.scalar is None else _gate(e.scalar)
        return Diagonal(decay=gate), b, c, -gate * wide(e.beta)[..., None] * spread(w, e.beta.shape[2], 2), w
    if isinstance(e, Dense) and e.matrix.shape[0] == e.matrix.shape[1] == 1:
        values, V = torch.linalg.eig(wide(e.matrix))
        if not float(torch.linalg.cond(V).max()) < WORST_BASIS:
            raise UnsupportedError(
                f"the transition's eigenvectors have condition number {float(torch.linalg.cond(V).max()):.0e}: "
                "it has no diagonal form that keeps its digits (LinOSS at frequency 0 has none at all)"
            )
        b, c = torch.linalg.solve(V, b.to(V.dtype).unsqueeze(-1))[..., 0], (c.to(V.dtype).unsqueeze(-2) @ V)[..., 0, :]
        return Diagonal(decay=values), b, c, None, None
    varies = " that changes with the token" if isinstance(e, Dense) else ""
    raise UnsupportedError(f"an evolution of kind {type(e).__name__}{varies} is not written as a ring here")


def _gate(e: Scalar) -> Tensor:
    """a_t with an axis for the state: (batch | 1, time | 1, heads | 1, 1)."""
    if e.log_decay is not None:
        return torch.exp(wide(e.log_decay))[..., None]
    assert e.decay is not None
    return wide(e.decay)[..., None]


def _planes(x: Tensor, layout: str) -> Tensor:
    """x_0 + i x_1 of every plane that a rotation turns."""
    first, second = x.chunk(2, -1) if layout == "half" else (x[..., 0::2], x[..., 1::2])
    return torch.complex(first, second)


def _joined(ring: RingNetwork, B: Tensor, C: Tensor, scale: float | None) -> RingNetwork:
    """All heads in one ring, driven by B u and read by C."""
    if B.dim() != 2 or C.dim() != 2 or B.shape[0] != ring.rings or C.shape[1] != ring.rings:
        raise InputError(
            f"B must be ({ring.rings} heads, inputs) and C (outputs, {ring.rings} heads), "
            f"got {tuple(B.shape)} and {tuple(C.shape)}"
        )
    if ring.left is not None or ring.late is not None:
        raise UnsupportedError("heads with scatterers or late inputs of their own do not join in one ring")

    def line(x: Tensor) -> Tensor:
        return x.flatten(2, 3).unsqueeze(2)

    d = ring.diagonal
    rate = d.rate
    if rate is not None:  # a clock a head: its rate takes it in
        assert d.step_size is not None
        merged = Diagonal(log_decay=line(rate * d.step_size[..., None]))
    else:
        merged = Diagonal(**{name: line(x) for name, x in d.tensors().items()})
    drive = ring.b * wide(B)[:, None, :]  # (.., heads, nodes, inputs)
    reading = ring.c.transpose(-1, -2) * wide(C).T[:, None, :]  # (.., heads, nodes, outputs)
    return replace(ring, scale=scale, diagonal=merged, b=line(drive), c=line(reading).transpose(-1, -2))


def _difference(ring: RingNetwork, d: CoefficientDynamics, B: Tensor | None, C: Tensor | None) -> float:
    """Largest difference of ring and oracle on the first tokens, relative to each ring's largest output."""
    seeded = torch.Generator().manual_seed(0)
    first = replace(d, length=COMPARED) if ring.constant else d.select_tokens(0, min(d.time, COMPARED))
    u = torch.randn(d.batch, first.time, ring.rings, ring.inputs, generator=seeded, dtype=torch.float64)
    if B is None or C is None:
        want = oracle(first, u)
    else:
        B, C = (wide(x).to(torch.complex128) for x in (B, C))
        modes = oracle(first, (u[:, :, 0].to(B.dtype) @ B.mT).unsqueeze(-1))[..., 0]
        want = (modes @ C.mT)[:, :, None]
        want = want if ring.scale is None else ring.scale * want.real
    apart, size = ((x.abs().amax((0, 1, 3))) for x in (ring.run(u).y - want, want))
    return float((apart / size.clamp(min=torch.finfo(torch.float64).tiny)).max())
