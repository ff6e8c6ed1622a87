"""The ring as coupled oscillators: amplitude r_j and phase theta_j of every node z_j = r_j exp(i theta_j).

z' = K z + inject u, taken apart:

    theta_j' = Im K_jj + sum_{k != j} |K_jk| (r_k / r_j) sin(theta_k - theta_j + arg K_jk) + Im D_j / r_j
    r_j'     = Re K_jj r_j + sum_{k != j} |K_jk| r_k cos(theta_k - theta_j + arg K_jk) + Re D_j

with the drive D_j = exp(-i theta_j) (inject u)_j. The phases are a Kuramoto-Sakaguchi network, coupled by |K_jk| with
the lag arg K_jk, whose weights are the ratios of amplitudes. It is solved exactly, z(t) = exp(K t) z(0), because it is
a LINEAR system in polar coordinates: true Kuramoto oscillators hold r_k / r_j at 1, and no exponential solves them. The
only nonlinearity of an S4D network is its decoder. Source of the network: arXiv 2604.20595; derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError

__all__ = ["LINEAR_IN_DISGUISE", "Oscillation", "kuramoto_sakaguchi", "oscillate"]

LINEAR_IN_DISGUISE = (
    "These oscillators are a linear system in polar coordinates: a node's phase is pulled by the others in proportion "
    "to their amplitudes, so exp(K t) solves them. Kuramoto's oscillators hold all amplitudes at one and have no such "
    "solution. The only nonlinearity of the layer is its decoder."
)


def kuramoto_sakaguchi(
    K: Complex[Tensor, "nodes nodes"], drive: Complex[Tensor, " nodes"] | None = None
) -> Callable[[Float[Tensor, " nodes"], Float[Tensor, " nodes"]], tuple[Tensor, Tensor]]:
    """The right-hand side (theta, r) -> (theta', r') of the equations above, for a constant drive.

    Undefined where an amplitude is zero: a phase is then no number, and the right-hand side is not finite there.
    """
    size, lag = K.abs(), K.angle()
    own = K.diagonal()
    size = size - torch.diag(size.diagonal())

    def change(theta: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        apart = theta[None, :] - theta[:, None] + lag
        pull, push = (size * apart.sin()) @ r, (size * apart.cos()) @ r
        turned = torch.zeros_like(own) if drive is None else torch.exp(-1j * theta) * drive
        return own.imag + (pull + turned.imag) / r, own.real * r + push + turned.real

    return change


@dataclass(frozen=True, eq=False)
class Oscillation:
    """times (moments,); theta, r (moments, nodes) as integrated; exact: exp(K t) z(0), complex (moments, nodes).
    error: largest |r exp(i theta) - exact| over the largest |exact|."""

    times: Float[Tensor, " moments"]
    theta: Float[Tensor, "moments nodes"] = field(repr=False)
    r: Float[Tensor, "moments nodes"] = field(repr=False)
    exact: Complex[Tensor, "moments nodes"] = field(repr=False)
    error: float
    statement: str = field(default=LINEAR_IN_DISGUISE, repr=False)


def oscillate(
    K: Complex[Tensor, "nodes nodes"],
    start: Complex[Tensor, " nodes"],
    times: Float[Tensor, " moments"],
    *,
    rtol: float = 1e-13,
) -> Oscillation:
    """Integrates phases and amplitudes by scipy (DOP853) and compares them with the exponential, at the given times.

    Raises InputError for times that do not start at 0 and rise or a start with a node at rest (its phase is no number),
    UnsupportedError without scipy or where the integrator gives up, as it does when an amplitude passes through zero.
    """
    if len(times) < 2 or float(times[0]) != 0 or not bool((times.diff() > 0).all()):
        raise InputError("times must start at 0 and rise")
    if not bool(start.abs().min() > 0):
        raise InputError(f"node {int(start.abs().argmin())} is at rest: it has no phase to start from")
    try:
        from scipy.integrate import solve_ivp
    except ImportError as error:
        raise UnsupportedError("the oscillators are integrated by scipy: pip install scipy") from error
    change, nodes = kuramoto_sakaguchi(K), len(start)

    def flat(_time: float, y: object) -> object:
        both = torch.as_tensor(y)
        return torch.cat(change(both[:nodes], both[nodes:])).numpy()

    first = torch.cat([start.angle(), start.abs()]).numpy()
    last = float(times[-1])
    found = solve_ivp(flat, (0, last), first, method="DOP853", t_eval=times.numpy(), rtol=rtol, atol=rtol)
    if not found.success:
        raise UnsupportedError(f"the integration stopped before {last:g}: {found.message}")
    y = torch.from_numpy(found.y).mT
    theta, r = y[:, :nodes], y[:, nodes:]
    exact = torch.stack([torch.linalg.matrix_exp(K * t) @ start for t in times])
    error = float((r * torch.exp(1j * theta) - exact).abs().max() / exact.abs().max())
    return Oscillation(times, theta, r, exact, error)
