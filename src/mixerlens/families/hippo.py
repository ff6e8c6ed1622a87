"""HiPPO: a state that holds the coefficients of the past in an orthogonal basis."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Dense
from mixerlens.families.checks import tensors
from mixerlens.families.draw import Draw
from mixerlens.families.family import Family, register
from mixerlens.operator.memory import require
from mixerlens.support import Support

__all__ = ["hippo_legs", "lag_operator_ssm"]


def hippo_legs(
    query: Inexact[Tensor, "batch time heads state"],
    length: int | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """c_t = M_t c_{t-1} + (I - M_t) e_1 f_t, y_t = q_t^T c_t with M_t = (t / (t + 1))^A, t = 0, 1, ...: HiPPO-LegS.

    A is the LegS matrix, lower triangular with eigenvalues 1 .. state. The discretisation is the exact one for a signal
    held over each token: in the time log t the system c' = -A c + b f is time-invariant and A^{-1} b = e_1. c_t then
    are the coefficients of the signal so far on the normalised Legendre polynomials of [0, t + 1], to rounding. (The
    paper also uses Euler and bilinear steps: those are other mixers.)

    query (batch, time, heads, state): what is read of the coefficients; one for all times needs ``length``. Values f
    (batch, time, heads, value_dim). Each segment starts its own clock. State ``state`` numbers a value channel. M_t
    depends on t and is dense: time x state x state numbers are held; MemoryBudgetError where they do not fit. Source:
    arXiv 2008.07669.
    """
    tensors(query=query)
    if query.dim() != 4:
        raise InputError(f"query must be (batch, time, heads, state), got {tuple(query.shape)}")
    support = Support(segments=segments)
    if not support.contiguous:
        raise UnsupportedError("the clock of HiPPO-LegS counts the tokens of a segment: each must be one run of tokens")
    state = query.shape[-1]
    if segments is not None:
        time = segments.shape[1]
    else:
        time = query.shape[1] if length is None else length
    clock = _clock(segments, time).to(query.device)
    require(
        "HiPPO-LegS's matrices", *clock.shape, state, state, dtype=torch.float64,
        instead="use a shorter sequence or a smaller state",
    )  # fmt: skip
    past = torch.arange(time, dtype=torch.float64, device=query.device)
    powers = legs_power(past / (past + 1), state)[clock][:, :, None]
    first = torch.eye(state, dtype=torch.float64, device=query.device)[0]
    return CoefficientDynamics(
        query=query,
        key=(first - powers[..., 0]).to(query.dtype.to_real()),
        evolution=Dense(powers),
        support=support,
        length=time,
    )


def lag_operator_ssm(
    lag: Float[Tensor, "#batch time state state"],
    projection: Float[Tensor, "#batch time state"],
    query: Inexact[Tensor, "batch time heads state"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """c_t = lag_t c_{t-1} + projection_t f_t, y_t = q_t^T c_t: a state that holds a window of the past in a basis.

    lag (batch | 1, time, state, state): the matrix that re-expands, in the basis of the window that ends at t, what
    the basis of the window before it held; projection (batch | 1, time, state): what the newest token adds. Both are
    the caller's: they follow from inner products of the chosen basis with itself on the longer, or warped, time axis.
    Legendre polynomials on [0, t] give HiPPO-LegS (`hippo_legs`, which forms them). query (batch, time, heads, state);
    values f (batch, time, heads, value_dim). State ``state`` numbers a value channel. Raises InputError for sizes that
    do not fit. Source: arXiv 2512.18965 (its recurrence; no particular basis).
    """
    tensors(lag=lag, projection=projection, query=query)
    if lag.dim() != 4 or query.dim() != 4 or lag.shape != (*projection.shape, query.shape[-1]):
        raise InputError(
            "lag must be (batch, time, state, state), projection (batch, time, state), query (batch, time, heads, "
            "state): got "
            f"{tuple(lag.shape)}, {tuple(projection.shape)}, {tuple(query.shape)}"
        )
    return CoefficientDynamics(
        query=query,
        key=projection[:, :, None],
        evolution=Dense(lag[:, :, None]),
        support=Support(segments=segments),
    )


def legs_power(ratio: Float[Tensor, " count"], state: int) -> Float[Tensor, "count state state"]:
    """ratio^A for the LegS matrix A and ratios in [0, 1], in float64.

    It takes the Legendre coefficients of a function on [0, r] to those of the same function on [0, 1], zero beyond r:
    r int_0^1 p_n(r x) p_k(x) dx, p the normalised polynomials. Gauss-Legendre quadrature with ``state`` nodes is exact
    for these and adds numbers of order one, where the matrix exponential of A log r would square a large norm away and
    the eigenvectors of A are useless.
    """
    nodes, weights = (torch.from_numpy(x).to(ratio.device) for x in np.polynomial.legendre.leggauss(state))
    at_nodes = _legendre(nodes, state)  # (nodes, state), p_k at x = (nodes + 1) / 2
    scaled = _legendre(ratio[:, None] * (nodes + 1) - 1, state)  # (count, nodes, state)
    power = ratio[:, None, None] * (scaled.mT * (weights / 2)) @ at_nodes
    return torch.tril(power)  # above the diagonal p_k is orthogonal to every polynomial of lower degree


def _legendre(x: Tensor, count: int) -> Tensor:
    """sqrt(2 n + 1) P_n(x) for n < count, by the three-term recurrence: (...,) -> (..., count)."""
    found = [torch.ones_like(x), x]
    for n in range(1, count - 1):
        found.append(((2 * n + 1) * x * found[n] - n * found[n - 1]) / (n + 1))
    size = torch.sqrt(2 * torch.arange(count, dtype=x.dtype, device=x.device) + 1)
    return torch.stack(found[:count], -1) * size


def _clock(segments: Tensor | None, time: int) -> Tensor:
    """Tokens before this one in its segment: (batch | 1, time)."""
    place = torch.arange(time)[None]
    if segments is None:
        return place
    segments = segments.cpu()
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return place - torch.where(begins, place, 0).cummax(1).values


def _warped(d: Draw) -> dict:
    """Legendre polynomials on [0, t^p] with a drawn p: HiPPO-LegS in a warped time."""
    past = torch.arange(d.time, dtype=torch.float64)
    lag = legs_power((past / (past + 1)) ** d.uniform(1, low=0.5, high=2.0), d.dim)
    first = torch.eye(d.dim, dtype=torch.float64)[0]
    return {"lag": lag[None], "projection": (first - lag[..., 0])[None], "query": d.vectors(), "value": d.values()}


register(
    Family(
        name="hippo_legs",
        title="HiPPO-LegS",
        function=hippo_legs,
        example=lambda d: {"query": d.vectors(), "value": d.values()},
        evolution="(t / (t + 1))^A, lower triangular",
        key="(I - A_t) e_1 ; q",
        state="N",
        source="arXiv 2008.07669",
        note="zero-order hold in log t: the exact Legendre coefficients of a held signal",
    ),
    Family(
        name="lag_operator_ssm",
        title="Lag-operator SSM",
        function=lag_operator_ssm,
        example=_warped,
        evolution="dense lower triangular, depends on t",
        key="projection of the newest token ; q",
        state="N",
        source="arXiv 2512.18965",
        note="the matrices of the basis are the caller's; Legendre polynomials on [0, t] give HiPPO-LegS",
    ),
)
