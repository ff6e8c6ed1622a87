"""Taylor series of an activation about 0, with a remainder that is proved, or a refusal.

    f(y) = sum_{p <= order} a_p y^p + remainder(y)

GELU (erf form): a_1 = 1/2, a_{2m+2} = (-1)^m / (sqrt(2 pi) 2^m m! (2m + 1)). The tanh kinds: with w a polynomial and
T = tanh(w), T' = (1 - T^2) w' gives one coefficient after the other, in decimals of 60 digits, rounded once.

A certificate has two parts. The remainder is at most the first term left out where the series envelops its function,
and Cauchy's estimate where it does not. The rounding is at most (2 order + 4) eps sum_p |a_p| R^p for |y| <= R: the
terms alternate, and at |y| = 10 those of GELU reach 1e20 where their sum is 10, so that no float64 survives. Orders are
no hierarchy once |y| > 1: order 74 is the first to certify 1e-3 at |y| = 5 (72 just reaches it).
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError

from .analytic import CUBIC, SLACK, Analytic, analytic

__all__ = ["certify", "order_needed", "radius", "remainder", "rounding", "taylor"]

LARGEST = 512  # the largest order whose coefficients are computed
_SEARCHED = 1 << 15  # orders among which the one needed is looked for
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")


def taylor(name: str, order: int) -> Float64[Tensor, " orders"]:
    """a_0 .. a_order of the named activation, float64 (order + 1,), each correct to its last digit or two.

    Raises InputError for an unknown name or an order below 0 or above 512.
    """
    analytic(name)
    if not 0 <= order <= LARGEST:
        raise InputError(f"order must be from 0 to {LARGEST}, not {order}")
    return torch.tensor(_coefficients(name)[: order + 1], dtype=torch.float64)


def radius(name: str) -> float:
    """The radius of convergence about 0: infinite for GELU, 2.83 for its tanh form, pi for sigmoid and its kin."""
    return analytic(name).radius


def remainder(name: str, order: int, largest: float) -> float:
    """A bound of |f(y) - sum_{p <= order} a_p y^p| over real |y| <= largest; infinite where the series diverges."""
    found = analytic(name)
    _check(largest)
    if name == "identity":
        return 0.0 if order >= 1 else largest
    if largest == 0:
        return 0.0
    if order < 1:  # what follows speaks of the rest, beyond constant and slope
        return found.slope * largest + remainder(name, 1, largest)
    if largest >= found.strip:
        return math.inf
    log = _log_tail(found, np.array([found.after(order)]), largest)[0]
    return math.exp(log + SLACK) if log < 700 else math.inf


def rounding(name: str, order: int, largest: float) -> float:
    """A bound of the float64 error of forming and adding the terms a_p y^p at |y| <= largest.

    It holds as well for the series about a point c in powers of y - c, with |y - c| + |c| <= largest.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.abs(taylor(name, order).numpy()) * np.power(float(largest), np.arange(order + 1))
        return (2 * order + 4) * 2.0**-52 * float(np.nan_to_num(sizes, nan=np.inf, posinf=np.inf).sum())


def order_needed(name: str, largest: float, tolerance: float) -> int | None:
    """The least order from which on the remainder at |y| <= largest stays within the tolerance.

    None where no order up to 32,768 does, as beyond the radius of convergence. Rounding is not looked at.
    """
    found = analytic(name)
    _check(largest)
    if not tolerance > 0:
        raise InputError(f"tolerance must be positive, not {tolerance}")
    if largest >= found.strip:
        return None
    first = [order for order in (0, 1) if remainder(name, order, largest) <= tolerance]
    if first or name == "identity":
        return first[0]
    omitted = np.arange(found.after(1), _SEARCHED, 2)
    above = np.flatnonzero(_log_tail(found, omitted, largest) > math.log(tolerance) - SLACK)
    last = above[-1] + 1
    return None if last == len(omitted) else int(omitted[last]) - 2


def certify(name: str, order: int, largest: float, tolerance: float) -> float:
    """remainder + rounding at |y| <= largest, when that is within the tolerance.

    Raises UnsupportedError otherwise: with the order that is needed, or saying that no order can do it, because the
    series diverges there or because float64 loses all its digits to cancellation.
    """
    found, needed = analytic(name), order_needed(name, largest, tolerance)
    instead = "use the Chebyshev series on the range"
    if needed is None:
        where = f"is certified below |y| = {found.strip:.4g} only (radius of convergence {found.radius:.4g})"
        reason = where if largest >= found.strip else f"needs more than {_SEARCHED} orders for {tolerance:g}"
        raise UnsupportedError(f"the Taylor series of {name} {reason} and |y| reaches {largest:.4g}: {instead}")
    lost = rounding(name, min(needed, LARGEST), largest)
    if lost > tolerance or needed > LARGEST:
        cancel = f"its terms cancel to an error of {lost:.2g} in float64"
        reason = cancel if lost > tolerance else f"there are {LARGEST} here"
        needs = f"needs order {needed} for {tolerance:g} at |y| = {largest:.4g}"
        raise UnsupportedError(f"the Taylor series of {name} {needs}, and {reason}: {instead}")
    bound = remainder(name, order, largest) + rounding(name, order, largest)
    if bound > tolerance:
        raise UnsupportedError(
            f"order {order} of the Taylor series of {name} is within {bound:.3g} at |y| = {largest:.4g}, not within "
            f"{tolerance:g}: order {needed} is needed, or {instead}"
        )
    return bound


def _check(largest: float) -> None:
    if not 0 <= largest < math.inf:
        raise InputError(f"the largest |y| must be a finite number from 0 on, not {largest}")


def _log_tail(found: Analytic, omitted: np.ndarray, largest: float) -> np.ndarray:
    """log of the remainder's bound when ``omitted`` is the first order left out, one of the rest's parity."""
    p = omitted.astype(float)
    if found.name == "gelu":
        m = p / 2 - 1
        gamma = np.array([math.lgamma(x + 1) for x in m])
        return p * math.log(largest) - math.log(2 * math.pi) / 2 - m * math.log(2) - gamma - np.log(p - 1)
    if found.enveloping:
        # tanh(y / 2) / 2 = sum over odd k of 2 y / (y^2 + (k pi)^2): |a_p| = 2 pi^-s sum_k k^-s of its powers s - 1
        s = p + found.parity
        odd = np.log1p(3.0**-s * (1 + 1.5 / (s - 1)))  # the sum over k > 1, the integral for k > 3
        integral = np.log(p) if found.name == "softplus" else 0  # of the sigmoid, term by term
        return math.log(2) - s * math.log(math.pi) + odd - integral + p * math.log(largest)
    radii = largest + (found.strip - largest) * np.linspace(0, 1, 66)[1:-1]
    growth = np.array([found.growth(r, r) for r in radii])
    log_ratio = math.log(largest) - np.log(radii)
    return (np.log(growth / -np.expm1(2 * log_ratio)) + p[:, None] * log_ratio).min(1)


@lru_cache
def _coefficients(name: str) -> tuple[float, ...]:
    """a_0 .. a_LARGEST."""
    if name == "identity":
        return (0.0, 1.0, *[0.0] * (LARGEST - 1))
    if name == "gelu":
        even = [
            float(Fraction((-1) ** m, 2**m * math.factorial(m) * (2 * m + 1))) / math.sqrt(2 * math.pi)
            for m in range(LARGEST // 2)
        ]
        return (0.0, 0.5, *[x for a in even for x in (a, 0.0)][: LARGEST - 1])
    with localcontext() as context:
        context.prec = 60
        half = Decimal(1) / 2
        if name == "gelu_tanh":
            scale = (2 / _PI).sqrt()
            inner = [Decimal(0), scale, Decimal(0), scale * Decimal(str(CUBIC))]
        else:
            inner = [Decimal(0), half]
        gate = [half * x for x in _tanh(inner)]
        gate[0] = half
        if name == "sigmoid":
            series = gate
        elif name == "softplus":
            series = [Decimal(2).ln(), *[x / (n + 1) for n, x in enumerate(gate[:-1])]]
        else:
            series = [Decimal(0), *gate[:-1]]
        return tuple(float(x) for x in series)


def _tanh(inner: list[Decimal]) -> list[Decimal]:
    """Taylor coefficients of tanh(w), w a polynomial without constant: n T_n = sum_k (k w_k) (1 - T^2)_{n-k}."""
    made, slope = [Decimal(0)], [Decimal(1)]  # of tanh and of 1 - tanh^2
    for n in range(1, LARGEST + 1):
        made.append(sum((k * w * slope[n - k] for k, w in enumerate(inner) if k <= n and w), Decimal(0)) / n)
        slope.append(-sum((made[k] * made[n - k] for k in range(1, n) if k % 2 and (n - k) % 2), Decimal(0)))
    return made
