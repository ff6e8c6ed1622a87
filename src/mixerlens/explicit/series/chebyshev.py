"""Chebyshev series of an activation on a range, a range for every feature, with a proved bound.

    f(y) = sum_{n <= degree} c_n T_n(y / R) + remainder(y),  |y| <= R

This, not the Taylor series, is the polynomial for |y| > 1: 1e-3 takes degree 16 at R = 5 and 26 at R = 8. Beyond R the
polynomials explode, so a value outside is an error, never an answer.

The bound. On the ellipse with foci -R, R and half height B, rest(z) is at most M = growth(sqrt(R^2 + B^2), B), hence
|c_n| <= 2 M rho^-n with rho = B / R + sqrt(1 + B^2 / R^2), for every B below the strip of analyticity: take the best
(Bernstein). With degree K so large that this is nothing, the coefficients up to K are interpolated, and what degree n
leaves out is at most sum_{n < k <= K} |c_k|, plus Bernstein's tail beyond K twice, for itself and for the aliasing,
plus rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError

from .analytic import SLACK, analytic
from .values import values_of

__all__ = ["Chebyshev", "bernstein", "chebyshev"]

_EPS = 2.0**-52
_LARGEST = 4096  # degree of the interpolant


@dataclass(frozen=True, eq=False)
class Chebyshev:
    """name: of the activation. ranges (features,): R. coefficients (features, degree + 1).

    bound (features,): of |f(y) - polynomial(y)| over |y| <= R, rounding included. All float64.
    """

    name: str
    ranges: Float64[Tensor, " features"] = field(repr=False)
    coefficients: Float64[Tensor, "features degrees"] = field(repr=False)
    bound: Float64[Tensor, " features"] = field(repr=False)

    @property
    def degree(self) -> int:
        return self.coefficients.shape[1] - 1

    def outside(self, y: Float[Tensor, "*leading features"]) -> Tensor:
        """Which values are out of range, where the polynomial says nothing about f."""
        return ~(y.abs() <= self.ranges)

    def __call__(self, y: Float[Tensor, "*leading features"]) -> Float64[Tensor, "*leading features"]:
        """The polynomial by Clenshaw's recurrence. Raises InputError if a value is out of range, with the count."""
        y = y.to(torch.float64)
        outside = self.outside(y)
        if bool(outside.any()):
            worst = float((y.abs() / self.ranges).max())
            count = f"{int(outside.sum())} of {y.numel()} values"
            raise InputError(f"{count} are out of range, by a factor of up to {worst:.4g}: make the series wider")
        x = y / self.ranges
        here, last = torch.zeros_like(x), torch.zeros_like(x)
        for c in self.coefficients[:, 1:].T.flip(0):
            here, last = c + 2 * x * here - last, here
        return self.coefficients[:, 0] + x * here - last

    @property
    def cancellation(self) -> Float64[Tensor, " features"]:
        """A bound, in float64, of what is lost by forming and adding powers of y instead: it grows by 2.4 a degree."""
        return 8 * (self.degree + 1) * _EPS * (self.coefficients.abs() @ _basis(self.degree).abs()).sum(1)

    def homogeneous(self, tolerance: float) -> Float64[Tensor, "features degrees"]:
        """The same polynomial as sum_p b_p y^p, where that keeps the tolerance; (features, degree + 1).

        The b_p are the orders of this polynomial, not those of f: they depend on R and on the degree. Raises
        UnsupportedError if ``cancellation`` exceeds the tolerance.
        """
        lost = float(self.cancellation.max())
        if lost > tolerance:
            raise UnsupportedError(
                f"the powers of a Chebyshev series of degree {self.degree} may err by {lost:.2g}, more than "
                f"{tolerance:g}: evaluate it as it is, or take a lower degree"
            )
        scale = self.ranges[:, None] ** torch.arange(self.degree + 1, dtype=torch.float64)
        return (self.coefficients @ _basis(self.degree)) / scale


def chebyshev(
    name: str, ranges: Float[Tensor, " features"], *, degree: int | None = None, tolerance: float | None = None
) -> Chebyshev:
    """The series of the named activation on [-R, R] for every R of ``ranges`` (features,), all of one degree.

    Give the degree, or the tolerance for the least degree whose bound keeps it on every range. Raises InputError for
    ranges that are not positive and finite, UnsupportedError if the tolerance is out of reach in float64.
    """
    ranges = ranges.to(torch.float64)
    if ranges.ndim != 1 or not ranges.numel() or not bool(((ranges > 0) & ranges.isfinite()).all()):
        values = f" from {float(ranges.min()):.4g} to {float(ranges.max()):.4g}" if ranges.numel() else ""
        raise InputError(f"ranges must be (features,), positive and finite, not {tuple(ranges.shape)}{values}")
    if (degree is None) == (tolerance is None) or (degree is not None and degree < 1):
        raise InputError(f"give a degree of at least 1 or a tolerance, not degree {degree} and tolerance {tolerance}")
    if tolerance is not None and not tolerance > 0:
        raise InputError(f"tolerance must be positive, not {tolerance}")
    widest = float(ranges.max())
    most = max(64, 2 * (degree or 0))
    while bernstein(name, widest, most) > _EPS * widest:
        most *= 2
        if most > _LARGEST:
            raise UnsupportedError(f"a series of {name} on |y| <= {widest:.4g} needs a degree above {_LARGEST}")
    angles = (torch.arange(most + 1, dtype=torch.float64) + 0.5) * (math.pi / (most + 1))
    values = values_of(name)(ranges[:, None] * torch.cos(angles))
    every = values @ torch.cos(angles[:, None] * torch.arange(most + 1)) * (2 / (most + 1))
    every[:, 0] /= 2
    every[:, 3 - analytic(name).parity :: 2] = 0  # but for rounding they are: the rest is even or odd
    sizes = every.abs()
    left = _from(sizes) - sizes  # sum over k > n
    tail = 2 * bernstein(name, widest, most)  # it grows with the range
    # Clenshaw's b_k is at most sum_j (j - k + 1) |c_j|, and its local error grows by U_{k-1} <= k on the way to y
    local = _from(_from(sizes)) * torch.arange(most + 1).clamp(min=1)
    # a coefficient: phases up to pi K, rounded, and a sum of K + 1 products
    rounding = _EPS * (5 * local.sum(1) + 8 * (most + 1) ** 2 * values.abs().amax(1))
    bound = left + tail + rounding[:, None]
    if tolerance is not None:
        kept = (bound.amax(0) <= tolerance).nonzero()[:, 0]
        if not len(kept):
            best = float(bound.amax(0).min())
            raise UnsupportedError(
                f"{name} on |y| <= {widest:.4g} is certified to {best:.2g} at best, not {tolerance:g}"
            )
        degree = max(int(kept[0]), 1)
    assert degree is not None
    return Chebyshev(name, ranges, every[:, : degree + 1].contiguous(), bound[:, degree])


def _basis(degree: int) -> Tensor:
    """Row n: T_n in powers of x."""
    rows = torch.eye(degree + 1, dtype=torch.float64)
    for n in range(2, degree + 1):
        rows[n] = 2 * rows[n - 1].roll(1) - rows[n - 2]
    return rows


def _from(sizes: Tensor) -> Tensor:
    """Sums of row entries from each one to the last."""
    return sizes.flip(1).cumsum(1).flip(1)


def bernstein(name: str, largest: float, degree: int) -> float:
    """A bound of sum_{k > degree} |c_k| on [-largest, largest], from the best of 127 ellipses inside the strip."""
    found = analytic(name)
    omitted = found.after(degree)
    # from a height of about sqrt(degree) on, GELU's growth exp(B^2 / 2) wins over rho^-degree; exp(36^2 / 2) is finite
    top = min(found.strip, 3 + math.sqrt(2 * degree), 36.0)
    best = math.inf
    for step in range(1, 128):
        height = top * step / 128
        slope = height / largest
        modulus = largest * math.hypot(1, slope)
        growth = found.growth(modulus, height)
        if growth == 0:
            return 0.0
        log_rho = math.asinh(slope)
        log = math.log(2 * growth) - omitted * log_rho - math.log(-math.expm1(-2 * log_rho))
        best = min(best, log)
    return math.exp(best + SLACK) if best < 700 else math.inf
