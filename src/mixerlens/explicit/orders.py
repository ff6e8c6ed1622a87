"""The Volterra orders of one S4D block's decoder, and what every input number adds to each of them.

    y = x + c,  x = k * u + D u          per feature; c is the bias wave, if there is one
    F = sum_th q_th f(y_th) = sum_p F_p + remainder
    F_p = sum_th q_th b_p,th x_th^p      homogeneous of degree p in the input u

With f(y) = sum_m a_m y^m on the range, b_p = sum_m a_m binomial(m, p) c^(m - p): without a bias GELU has no odd order
above 1, a bias brings them all back. One convolution gives x, then an order is one pointwise power, never the
O(L^p) sum over tuples of inputs that it stands for. Its account of input (j, h) is one transposed convolution,

    attribution_p,jh = u_jh sum_t T_tj,h q_th b_p,th x_th^(p-1),        T = k * + D,

and sums to F_p by Euler's identity for homogeneous functions. It says how the value is made up; it is no causal effect.

The a_m come from the Taylor series where that is certified, or, asked for by name, from the Chebyshev series on each
feature's own range. Those orders are of another polynomial, one that is much closer to f, and they change with range
and degree; only their sum is an approximation of f.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..errors import InputError, UnsupportedError
from ..measures.record import Record
from ..operator.memory import require
from ..operator.toeplitz import convolve, correlate
from .series import certify, chebyshev, taylor
from .series.taylor import remainder, rounding
from .series.values import values_of

__all__ = ["Orders", "orders"]


@dataclass(frozen=True, eq=False)
class Orders(Record):
    """values (order + 1,): F_p. attribution (order + 1, time, features): its parts, 0 for the constant order 0.

    exact: F with the activation itself. bound: of |exact - sum of values|, proved for exact sums over time and
    features; those round as every sum does. ranges (features,): |x| + |c| at most.
    """

    activation: str
    series: str
    exact: float
    values: Float64[Tensor, " orders"]
    attribution: Float64[Tensor, "orders time features"] = field(repr=False)
    bound: float
    ranges: Float64[Tensor, " features"] = field(repr=False)

    labels: ClassVar[dict[str, str]] = {
        "series": "The polynomial in place of the activation: taylor, or chebyshev on each feature's range.",
        "exact": "The target with the activation itself.",
        "values": "What each order, from 0 on, adds to the target.",
        "bound": "Proved bound of the difference between the target and the sum of its orders.",
        "ranges": "Each feature's range of the series, which its values keep.",
        "attribution": "What each input number adds to each order, by Euler's identity: bookkeeping, no causal effect.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(("exact", "values", "bound", "attribution"), "target")

    @property
    def total(self) -> float:
        return float(self.values.sum())

    def to_json(self) -> dict[str, Any]:
        return self._described(
            {
                "activation": self.activation,
                "series": self.series,
                "exact": self.exact,
                "values": self.values,
                "total": self.total,
                "bound": self.bound,
                "ranges": self.ranges,
                "attribution": self.attribution,
            }
        )


@torch.no_grad()
def orders(
    kernel: Float[Tensor, "features time"],
    skip: Float[Tensor, " features"],
    u: Float[Tensor, "time features"],
    activation: str,
    weights: Float[Tensor, "time features"] | Float[Tensor, "1 features"],
    order: int,
    *,
    bias: Float[Tensor, "time features"] | Float[Tensor, "1 features"] | None = None,
    series: Literal["taylor", "chebyshev"] = "taylor",
    tolerance: float = 1e-3,
) -> Orders:
    """The orders 0 .. order of F = sum_th weights_th f(y_th), y = k * u + D u + bias, in float64.

    tolerance: the largest error allowed of any f(y). bias: added to y, constant in time or not; no input of its own.

    Raises UnsupportedError if the order, or any order in float64, does not keep the tolerance, InputError for shapes
    that do not fit and numbers that are not finite, MemoryBudgetError where the attribution would not fit.
    """
    kernel, skip, u, weights = (x.to(torch.float64) for x in (kernel, skip, u, weights))
    shift = None if bias is None else bias.to(torch.float64)
    _check(kernel, skip, u, weights, shift, order, tolerance)
    time, features = u.shape
    shape = (order + 4, time, features)
    require("the attribution of every order", *shape, dtype=u.dtype, instead="take fewer orders or a shorter input")
    x = _along(convolve, kernel, u) + skip * u
    y = x if shift is None else x + shift
    ranges = x.abs().amax(0) + (0 if shift is None else shift.abs().amax(0))
    if series == "taylor":
        powers, each = _taylor(activation, order, ranges, tolerance)
    elif series == "chebyshev":
        powers, each = _chebyshev(activation, order, ranges, tolerance)
    else:
        raise InputError(f"series must be 'taylor' or 'chebyshev', not {series!r}")
    terms = list(powers.unsqueeze(1))  # b_p, (time | 1, features)
    if shift is not None:
        _recentre(terms, shift)
    values, attribution = u.new_zeros(order + 1), u.new_zeros(order + 1, *u.shape)
    values[0] = (weights * terms[0]).expand_as(u).sum()
    power = weights.expand_as(u)  # q x^(p - 1)
    for p, term in enumerate(terms[1:], 1):
        if bool(term.any()):
            cotangent = power * term
            values[p] = (cotangent * x).sum()
            attribution[p] = u * (_along(correlate, kernel, cotangent) + skip * cotangent)
        power = power * x
    return Orders(
        activation=activation,
        series=series,
        exact=float((weights * values_of(activation)(y)).sum()),
        values=values,
        attribution=attribution,
        bound=float((weights.abs().expand_as(u) * each).sum()),
        ranges=ranges,
    )


def _taylor(name: str, order: int, ranges: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Coefficients (order + 1, features), and a bound of the error of f for each feature."""
    certify(name, order, float(ranges.max()), tolerance)
    each = [remainder(name, order, r) + rounding(name, order, r) for r in ranges.tolist()]
    return taylor(name, order)[:, None].expand(-1, len(ranges)), ranges.new_tensor(each)


def _chebyshev(name: str, order: int, ranges: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    ranges = ranges.clamp(min=1e-3)  # a feature that is silent
    found = chebyshev(name, ranges, degree=order)
    each = found.bound + found.cancellation
    worst = float(each.max())
    if worst > tolerance and float(found.cancellation.max()) <= tolerance:
        needed = chebyshev(name, ranges, tolerance=tolerance).degree
        raise UnsupportedError(
            f"degree {order} of the Chebyshev series of {name} is within {worst:.3g} at |y| <= "
            f"{float(ranges.max()):.4g}, not within {tolerance:g}: degree {needed} is needed"
        )
    return found.homogeneous(tolerance).T, each


def _recentre(terms: list[Tensor], shift: Tensor) -> None:
    """sum_p terms_p (x + c)^p as a polynomial in x, in place: Horner's scheme, once for every coefficient."""
    for done in range(len(terms) - 1):
        for p in range(len(terms) - 2, done - 1, -1):
            terms[p] = terms[p] + shift * terms[p + 1]


def _along(form: Callable[[Tensor, Tensor], Tensor], kernel: Tensor, signal: Tensor) -> Tensor:
    """A convolution or its transpose over time, (time, features) to the same."""
    return form(kernel[None], signal.T[None, ..., None])[0, ..., 0].T


def _check(
    kernel: Tensor, skip: Tensor, u: Tensor, weights: Tensor, shift: Tensor | None, order: int, tolerance: float
) -> None:
    shapes = {"kernel": kernel, "skip": skip, "u": u, "weights": weights} | ({} if shift is None else {"bias": shift})
    said = ", ".join(f"{name} {tuple(x.shape)}" for name, x in shapes.items())
    if u.ndim != 2 or u.numel() == 0 or kernel.shape != u.T.shape or skip.shape != u.shape[1:]:
        raise InputError(f"kernel (features, time), skip (features,) and u (time, features) do not fit: {said}")
    for x in (weights, shift):
        if x is not None and (x.ndim != 2 or x.shape[0] not in (1, len(u)) or x.shape[1] != u.shape[1]):
            raise InputError(f"weights and bias must be (time, features) or (1, features): {said}")
    for name, x in shapes.items():
        if not bool(x.isfinite().all()):
            raise InputError(f"{name} holds NaN or infinite numbers")
    if order < 1:
        raise InputError(f"order must be at least 1, not {order}")
    if not tolerance > 0:
        raise InputError(f"tolerance must be positive, not {tolerance}")
