"""The elementwise maps from what a projection or parameter holds to what the equation is given, and feature maps.

Sources of the feature maps: elu + 1 arXiv 2006.16236; exp and softmax over the dimensions arXiv 1812.01243; Taylor
features arXiv 2402.18668; exp of both signs arXiv 2402.04347.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

INF = math.inf


def _same(dim: int) -> int:
    return dim


@dataclass(frozen=True)
class Transform:
    """One map of raw numbers: its range [low, high], its inverse where it has one, and the dimensions it makes of n."""

    apply: Callable[[Tensor], Tensor]
    low: float = -INF
    high: float = INF
    inverse: Callable[[Tensor], Tensor] | None = None
    size: Callable[[int], int] = _same


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) to rounding at both ends; torch's own is x itself above 20."""
    return torch.logaddexp(x, torch.zeros_like(x))


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))


def elu_plus_one(x: Tensor) -> Tensor:
    """x + 1 above 0, e^x below, without the cancellation of elu(x) + 1."""
    return torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0)))


def _taylor(x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch size"]:
    """(1, x, x_a x_b / sqrt 2 for all a, b with pairs counted once): its inner products are 1 + z + z^2 / 2."""
    a, b = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
    weight = torch.ones(len(a), dtype=x.dtype, device=x.device).masked_fill(a == b, 0.5**0.5)
    return torch.cat([torch.ones_like(x[..., :1]), x, x[..., a] * x[..., b] * weight], -1)


TRANSFORMS: dict[str, Transform] = {
    "identity": Transform(lambda x: x, inverse=lambda y: y),
    "sigmoid": Transform(torch.sigmoid, 0, 1, torch.logit),
    "log_sigmoid": Transform(F.logsigmoid, -INF, 0, lambda y: y - torch.log(-torch.expm1(y))),
    "softplus": Transform(softplus, 0, INF, _inverse_softplus),
    "neg_softplus": Transform(lambda x: -softplus(x), -INF, 0, lambda y: _inverse_softplus(-y)),
    "exp": Transform(torch.exp, 0, INF, torch.log),
    "neg_exp": Transform(lambda x: -torch.exp(x), -INF, 0, lambda y: torch.log(-y)),
    "tanh": Transform(torch.tanh, -1, 1, torch.atanh),
    "relu": Transform(torch.relu, 0, INF, lambda y: y),
    "silu": Transform(F.silu, -0.2784645427610738, INF),
    "gelu": Transform(F.gelu, -0.16997120747990369, INF),
    "square": Transform(torch.square, 0, INF, torch.sqrt),
    "elu_plus_one": Transform(elu_plus_one, 0, INF, lambda y: torch.where(y > 1, y - 1, torch.log(y))),
}

FEATURES: dict[str, Transform] = TRANSFORMS | {
    "softmax": Transform(lambda x: torch.softmax(x, -1), 0, 1),
    "taylor": Transform(_taylor, size=lambda n: 1 + n + n * (n + 1) // 2),
    "exp_both_signs": Transform(lambda x: torch.exp(torch.cat([x, -x], -1)), 0, INF, size=lambda n: 2 * n),
    "relu_both_signs": Transform(lambda x: torch.relu(torch.cat([x, -x], -1)), 0, INF, size=lambda n: 2 * n),
}


def _l2(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1, eps=1e-12)


def _rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps)


def _sum(x: Tensor) -> Tensor:
    return x / x.sum(-1, keepdim=True)


NORMS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "l2": _l2, "rms": _rms, "sum": _sum}
