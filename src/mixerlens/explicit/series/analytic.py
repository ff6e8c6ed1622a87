"""What a rigorous bound needs to know of an activation as a function of a complex variable.

    f(z) = constant + slope z + rest(z)        |rest(z)| <= growth(|z|, B) wherever |Im z| <= B < strip

Cauchy's estimates turn the growth into bounds of Taylor and Chebyshev coefficients; no bound comes from samples. All
five functions are made of an odd gate, erf(z / sqrt 2) / 2 or tanh(w) / 2, and these are bounded as follows.

- erf: integrate exp(-s^2 / 2) along the real axis to x, then up to x + iy. The first leg gives at most 1/2, the second
  at most exp(-x^2 / 2) / sqrt(2 pi) times the integral of exp(t^2 / 2) over t < |y|, which t^2 <= t |y| bounds by
  2 (exp(y^2 / 2) - 1) / |y|.
- tanh(a + ib): its squared modulus is (sinh^2 a + sin^2 b) / (sinh^2 a + cos^2 b), at most 1 for |b| <= pi / 4, at most
  tan^2 b for |b| < pi / 2, at most coth^2 a for every b. For SiLU b = Im z / 2, and the first two suffice. For the tanh
  form of GELU w = c (z + k z^3): left of |Re z| = x0 use tan, right of it coth, with any x0. That works as far as
  |Im z| = 1 / sqrt(3 k) = 2.73, where Re w may vanish off the imaginary axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixerlens.errors import InputError

__all__ = ["ANALYTIC", "CUBIC", "SLACK", "Analytic", "analytic"]

CUBIC = 0.044715  # of the tanh form of GELU: tanh(sqrt(2 / pi) (y + CUBIC y^3))
SLACK = 1e-9  # added to the logarithm of every bound, for the rounding of the bound itself
_SCALE = math.sqrt(2 / math.pi)


@dataclass(frozen=True)
class Analytic:
    """name: of the activation. constant, slope: f(0), f'(0). parity: of the rest, 0 even or 1 odd.

    radius: of convergence of the Taylor series about 0, the modulus of the nearest pole. strip: |Im z| below which
    growth(modulus, height) bounds the rest; enveloping: the Taylor remainder at real y is at most the first term left
    out, because rest(y), or its derivative, is a power of y times a completely monotone function of y^2.
    """

    name: str
    constant: float
    slope: float
    parity: int
    radius: float
    strip: float
    growth: Callable[[float, float], float]
    enveloping: bool

    def after(self, order: int) -> int:
        """The first order above this one, and above 1, whose coefficient may differ from 0."""
        found = max(order + 1, 2)
        return found + (found - self.parity) % 2


def _erf_gate(height: float) -> float:
    if height == 0:
        return 0.5
    return 0.5 + 2 * math.expm1(height**2 / 2) / (height * math.sqrt(2 * math.pi))


def _tanh_gate(height: float) -> float:
    """Of tanh(z / 2) / 2 for |Im z| <= height < pi."""
    return max(1.0, math.tan(height / 2)) / 2


def _cubic_gate(height: float) -> float:
    """Of tanh(c (z + k z^3)) / 2 for |Im z| <= height < 1 / sqrt(3 k)."""
    x = np.geomspace(1e-3, 10, 400)  # the places x0 to choose from; each of them gives a bound
    right = 1 / np.tanh(_SCALE * x * (1 - 3 * CUBIC * height**2))
    angle = _SCALE * (height * (1 + 3 * CUBIC * x**2) - CUBIC * height**3)
    left = np.where(angle < math.pi / 2, np.maximum(np.tan(np.minimum(angle, math.pi / 2)), 1), np.inf)
    return float(np.maximum(left, right).min()) / 2


def _nearest_cubic_pole() -> float:
    """|z| at the nearest solution of c (z + k z^3) = i pi / 2; the other poles, at odd multiples, are farther away."""
    return float(np.abs(np.roots([CUBIC, 0, 1, -1j * math.pi / 2 / _SCALE])).min())


ANALYTIC = {
    found.name: found
    for found in (
        Analytic("gelu", 0.0, 0.5, 0, math.inf, math.inf, lambda r, b: r * _erf_gate(b), True),
        Analytic(
            "gelu_tanh",
            0.0,
            0.5,
            0,
            _nearest_cubic_pole(),
            1 / math.sqrt(3 * CUBIC),
            lambda r, b: r * _cubic_gate(b),
            False,
        ),
        Analytic("silu", 0.0, 0.5, 0, math.pi, math.pi, lambda r, b: r * _tanh_gate(b), True),
        Analytic("sigmoid", 0.5, 0.25, 1, math.pi, math.pi, lambda r, b: r / 4 + _tanh_gate(b), True),
        # log(1 + e^z) = log 2 + z / 2 + the integral of tanh / 2, here along the segment from 0
        Analytic("softplus", math.log(2), 0.5, 0, math.pi, math.pi, lambda r, b: r * _tanh_gate(b), True),
        Analytic("identity", 0.0, 1.0, 0, math.inf, math.inf, lambda r, b: 0.0, True),
    )
}


def analytic(name: str) -> Analytic:
    """The facts of the activation of that name. Raises InputError, with the names there are, for any other."""
    if name not in ANALYTIC:
        raise InputError(f"{name!r} has no series here; choose from {', '.join(ANALYTIC)}")
    return ANALYTIC[name]
