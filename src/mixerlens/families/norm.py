"""Norm attention of the dynamical systems framework: linear attention divided by a number made from the token alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.families.checks import tensors
from mixerlens.families.family import Family, register
from mixerlens.normalizer import PerToken
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["norm_attention"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),  # torch's own is x itself above 20
    "elu": lambda x: torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0))),  # elu + 1 without its cancellation
    "sigmoid": torch.sigmoid,
    "given": lambda x: x,
}


def norm_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    score: Float[Tensor, "#batch #time #heads"],
    activation: str = "exp",
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = S_{t-1} + k_t v_t^T, y_t = S_t^T q_t / eta_t, eta_t = activation(score_t).

    query, key (batch, time, heads, dim), used as given (no 1 / sqrt(dim)); score: w^T x_t, (batch | 1, time | 1,
    heads | 1); activation: "exp", "softplus", "elu" (elu + 1), "sigmoid", or "given" where score is eta itself.
    eta depends on the query's token only, so it needs no state of its own: dim a value channel. Raises InputError for
    an unknown activation and for an eta that is zero or infinite. Source: arXiv 2405.15731.
    """
    tensors(query=query, key=key, score=score)
    if activation not in _ACTIVATIONS:
        raise InputError(f"activation is {activation!r}: use one of {', '.join(_ACTIVATIONS)}")
    eta = _ACTIVATIONS[activation](wide(score))
    return CoefficientDynamics(query, key, normalizer=PerToken(eta), support=Support(segments=segments))


register(
    Family(
        name="norm_attention",
        title="Norm attention (DSF)",
        function=norm_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "score": d.gates(low=-2, high=2),
            "value": d.values(),
        },
        evolution="I",
        key="k ; q",
        normalizer="exp(w^T x_i)",
        state="n",
        source="arXiv 2405.15731",
        note="also softplus, elu + 1, sigmoid; eta needs no state",
    ),
)
