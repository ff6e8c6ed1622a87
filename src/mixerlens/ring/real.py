"""Conjugate pairs as a ring of real numbers.

A real layer keeps one mode of each conjugate pair, x_n, and reads 2 Re(c x). Let the pair be two plane waves of
opposite wavenumber on P real nodes, exp(+-i kappa_n j) with kappa_n = 2 pi w_n / P: then z_j is real, and so is the
coupling. Three ways to choose the wavenumbers of M modes are exact:

| kind | nodes | wavenumbers | boundary |
|---|---|---|---|
| "antiperiodic" | 2 M | n + 1/2 | a wave comes back with the other sign: K is negacyclic |
| "dummy" | 2 M + 1 | n + 1, and a mode of wavenumber 0 that is driven and never read | periodic |
| "real_mode" | 2 M - 1 | n; mode 0 must be real, as S4D-Lin's is | periodic |

Two M periodic nodes do not do: wavenumbers 0 and P / 2 have no partner, so that only M - 1 pairs fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.ring.network import RingNetwork
from mixerlens.shapes import wide

__all__ = ["KINDS", "RealRing", "real_ring"]

KINDS = ("antiperiodic", "dummy", "real_mode")


@dataclass(frozen=True, eq=False)
class RealRing:
    """z_t = step z_{t-1} + inject u_t, y_t = read z_t: everything real, float64.

    kind: how the ring closes. generator: K, the coupling in continuous time; step: its sample at one token; both
    (rings, nodes, nodes), circulant, or negacyclic where antiperiodic. inject, read: (rings, nodes).
    """

    kind: str
    generator: Float[Tensor, "rings nodes nodes"] = field(repr=False)
    step: Float[Tensor, "rings nodes nodes"] = field(repr=False)
    inject: Float[Tensor, "rings nodes"] = field(repr=False)
    read: Float[Tensor, "rings nodes"] = field(repr=False)

    @property
    def nodes(self) -> int:
        return self.inject.shape[-1]

    def run(self, u: Inexact[Tensor, "batch time rings channels"]) -> Float[Tensor, "batch time rings channels"]:
        """The network token by token, float64. Raises InputError for another shape."""
        if u.dim() != 4 or u.shape[2] != self.inject.shape[0]:
            raise InputError(f"u must be (batch, time, {self.inject.shape[0]}, channels), got {tuple(u.shape)}")
        z = torch.zeros(u.shape[0], *self.inject.shape, u.shape[3], dtype=torch.float64, device=u.device)
        rows = []
        for now in wide(u).unbind(1):
            z = self.step @ z + self.inject[..., None] * now[:, :, None]
            rows.append((self.read[:, None] @ z)[:, :, 0])
        return torch.stack(rows, 1)

    def impulse_response(self, tokens: int) -> Float[Tensor, "tokens rings nodes"]:
        """The nodes at tokens 0 .. tokens - 1 after one unit enters at token 0."""
        states = [self.inject]
        for _ in range(tokens - 1):
            states.append((self.step @ states[-1].unsqueeze(-1))[..., 0])
        return torch.stack(states)


def real_ring(ring: RingNetwork, kind: str = "antiperiodic") -> RealRing:
    """The real ring of a network whose modes stand for conjugate pairs (`scale` 2, as S4D's).

    Raises InputError for another kind; UnsupportedError for a network that changes with the token, has a scatterer,
    several inputs or outputs or a complex one, and for "real_mode" where the first mode is not real.
    """
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}: choose from {', '.join(KINDS)}")
    if (
        not ring.constant
        or ring.left is not None
        or ring.late is not None
        or ring.inputs > 1
        or ring.scale is None
        or ring.c.shape[-2] > 1
    ):
        raise UnsupportedError("a real ring takes a constant network with one input, one real output and no scatterer")
    rate, multiplier = ring.generator, ring.multiplier()[0]
    b, c = ring.b[0, 0, ..., 0], ring.c[0, 0, ..., 0, :]
    modes = ring.nodes
    weight = torch.ones(modes, dtype=torch.float64)  # how many plane waves stand for a mode, over two
    if kind == "antiperiodic":
        nodes, wavenumber = 2 * modes, torch.arange(modes, dtype=torch.float64) + 0.5
    elif kind == "dummy":
        nodes, wavenumber = 2 * modes + 1, torch.arange(1, modes + 1, dtype=torch.float64)
    else:
        if bool((rate[:, 0].imag != 0).any()) or bool((b[:, 0].imag != 0).any()):
            raise UnsupportedError(
                f"the first mode is not real: its frequency is {float(rate[:, 0].imag.abs().max()):.3g} "
                "and b may turn it; use 'antiperiodic' or 'dummy'"
            )
        nodes, wavenumber = 2 * modes - 1, torch.arange(modes, dtype=torch.float64)
        weight[0] = 0.5
    place = torch.arange(nodes, dtype=torch.float64)
    waves = torch.exp(2j * math.pi / nodes * torch.outer(place, wavenumber)) / math.sqrt(nodes)
    pairs = 2 * weight * waves  # mode x_n as real nodes: z = Re(pairs x)

    def matrix(eigenvalues: Tensor) -> Tensor:
        return ((pairs * eigenvalues[:, None]) @ waves.mH).real

    generator, step, inject = matrix(rate), matrix(multiplier), (pairs @ b.mT).real.mT
    if kind == "dummy":  # the mode of wavenumber 0: it decays as the slowest does, takes its share of u, is not read
        flat = torch.full((nodes, nodes), 1 / nodes, dtype=torch.float64)
        slowest = rate.real.amax(-1)
        generator = generator + slowest[:, None, None] * flat
        step = step + multiplier.abs().amax(-1)[:, None, None] * flat
        inject = inject + b.abs().mean(-1, keepdim=True) / math.sqrt(nodes)
    # x_n = sum_j z_j conj(waves); a mode that is its own partner is real, and only Re c reads it
    read = ring.scale * (c @ waves.mH).real
    return RealRing(kind, generator, step, inject, read)
