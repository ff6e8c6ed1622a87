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

from ..activations import Pointwise
from .analytic import CUBIC
from .values import values_of

__all__ = ["hermite_shares"]

_REACH = 36.0  # standard deviations, where the weight is 1e-282
_ORDERS = 32
_EDGE = 1e-28  # of the variance at most a step at the ends: what is cut off changes a share by its root
_MOST = 1 << 20  # nodes
_AGREE = 1e-12  # of two step sizes


def hermite_shares(name: str, mean: float, sd: float, order: int = 8) -> Float64[Tensor, " orders"]:
    """Shares of orders 1 .. order of the variance of f(y), y normal with this mean and standard deviation.

    float64 (order,), summing to at most 1, each right to about 1e-12, not to a part of itself. By the trapezoidal rule,
    which converges geometrically for an analytic function under a Gaussian weight, within 36 standard deviations; the
    step is halved until two results agree to 1e-12. Raises InputError for a standard deviation that is not positive or
    an order outside 1 .. 32, UnsupportedError if 2^20 nodes do not agree or the variance lies farther out than that,
    as a GELU's whose mean is 50 sd = 1 below zero.
    """
    if not (sd > 0 and math.isfinite(sd) and math.isfinite(mean)):
        raise InputError(f"mean must be finite and sd positive and finite, not {mean} and {sd}")
    if not 1 <= order <= _ORDERS:
        raise InputError(f"order must be from 1 to {_ORDERS}, not {order}")
    nodes, before = 512, None
    while nodes <= _MOST:
        found = _shares(name, mean, sd, order, nodes)
        if before is not None and float((found - before).abs().max()) <= _AGREE:
            return found
        nodes, before = 2 * nodes, found
    raise UnsupportedError(f"the Hermite shares of {name} at mean {mean:g}, sd {sd:g} do not settle with {_MOST} nodes")


def _shares(name: str, mean: float, sd: float, order: int, nodes: int) -> Tensor:
    x = torch.linspace(-_REACH, _REACH, nodes + 1, dtype=torch.float64)
    weight = torch.exp(-x * x / 2) * (2 * _REACH / nodes / math.sqrt(2 * math.pi))
    f = _TAILS.get(name, values_of(name))(mean + sd * x)
    f = f - (weight * f).sum()
    variance = (weight * f * f).sum()
    ends = (weight * f * f)[[0, -1]].max()
    if not ends <= _EDGE * variance or variance == 0:
        raise UnsupportedError(
            f"the variance of {name} at mean {mean:g}, sd {sd:g} lies {_REACH:g} standard deviations out or farther, "
            "where float64 has no Gaussian weight: a unit as dead as that has no shares"
        )
    squares, last, here = [], torch.zeros_like(x), torch.ones_like(x)
    for n in range(1, order + 1):  # sqrt(n) h_n = x h_{n-1} - sqrt(n - 1) h_{n-2}
        last, here = here, (x * here - math.sqrt(n - 1) * last) / math.sqrt(n)
        squares.append((weight * f * here).sum() ** 2)
    return torch.stack(squares) / variance


# the same functions, right to their last digits where they are all but zero: the variance of a dead unit lies there
_TAILS: dict[str, Pointwise] = {
    "gelu": lambda y: y * torch.special.erfc(-y / math.sqrt(2)) / 2,
    "gelu_tanh": lambda y: y * torch.sigmoid(math.sqrt(8 / math.pi) * (y + CUBIC * y**3)),
}
