"""How much of an activation's variance each order carries when its argument is Gaussian: the Hermite (Wiener) shares.

    f(mean + sd x) = sum_n c_n h_n(x),  x standard normal,  h_n orthonormal Hermite polynomials
    variance = sum_{n >= 1} c_n^2,      share of order n = c_n^2 / variance

Unlike Taylor orders these are a hierarchy at every scale. Like them they say nothing about what was learnt: with mean
zero, orders 1 and 2 carry 95.9 % or more of GELU's variance whatever the weights, so a random-weight baseline belongs
beside every "share explained".
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError

from .values import values_of

__all__ = ["hermite_shares"]

_REACH = 16.0  # standard deviations: the weight beyond is below 1e-56
_ORDERS = 32  # h_32^2 times the weight is below 1e-20 there too
_MOST = 1 << 20  # nodes
_AGREE = 1e-12  # of two step sizes


def hermite_shares(name: str, mean: float, sd: float, order: int = 8) -> Float64[Tensor, " orders"]:
    """Shares of orders 1 .. order of the variance of f(y), y normal with this mean and standard deviation.

    float64 (order,), summing to at most 1. By the trapezoidal rule, which converges geometrically for an analytic
    function under a Gaussian weight; the step is halved until two results agree to 1e-12. Raises InputError for a
    standard deviation that is not positive or an order outside 1 .. 32, UnsupportedError if 2^20 nodes do not agree.
    """
    if not (sd > 0 and math.isfinite(sd) and math.isfinite(mean)):
        raise InputError(f"mean must be finite and sd positive and finite, not {mean} and {sd}")
    if not 1 <= order <= _ORDERS:
        raise InputError(f"order must be from 1 to {_ORDERS}, not {order}")
    nodes, before = 256, None
    while nodes <= _MOST:
        found = _shares(name, mean, sd, order, nodes)
        if before is not None and float((found - before).abs().max()) <= _AGREE:
            return found
        nodes, before = 2 * nodes, found
    raise UnsupportedError(f"the Hermite shares of {name} at mean {mean:g}, sd {sd:g} do not settle with {_MOST} nodes")


def _shares(name: str, mean: float, sd: float, order: int, nodes: int) -> Tensor:
    x = torch.linspace(-_REACH, _REACH, nodes + 1, dtype=torch.float64)
    weight = torch.exp(-x * x / 2) * (2 * _REACH / nodes / math.sqrt(2 * math.pi))
    f = values_of(name)(mean + sd * x)
    f = f - (weight * f).sum()
    squares, last, here = [], torch.zeros_like(x), torch.ones_like(x)
    for n in range(1, order + 1):  # sqrt(n) h_n = x h_{n-1} - sqrt(n - 1) h_{n-2}
        last, here = here, (x * here - math.sqrt(n - 1) * last) / math.sqrt(n)
        squares.append((weight * f * here).sum() ** 2)
    return torch.stack(squares) / (weight * f * f).sum()
