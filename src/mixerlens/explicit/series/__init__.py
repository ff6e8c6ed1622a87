"""Polynomials in place of an activation: Taylor where it is certified, Chebyshev on a range, Hermite for a Gaussian."""

from .chebyshev import Chebyshev, chebyshev
from .hermite import hermite_shares
from .taylor import certify, order_needed, radius, taylor

__all__ = ["Chebyshev", "certify", "chebyshev", "hermite_shares", "order_needed", "radius", "taylor"]
