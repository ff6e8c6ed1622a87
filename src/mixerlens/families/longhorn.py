"""Longhorn: every channel is an online learner that predicts its value from the key."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Diagonal
from mixerlens.families.checks import tensors
from mixerlens.families.family import Family, register
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["longhorn"]


def longhorn(
    query: Float[Tensor, "batch time state"],
    key: Float[Tensor, "batch time state"],
    beta: Float[Tensor, "batch time channels"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """s_t = (1 - d_t k_t^2) s_{t-1} + d_t k_t x_t, y_t = q_t^T s_t a channel, with d = beta / (1 + beta k^T k).

    query, key (batch, time, state) are shared by the channels; beta (batch, time, channels) >= 0, after the sigmoid.
    Values x (batch, time, channels, 1), a head a channel. s_t minimises |s - s_{t-1}|^2 + beta_t (k_t^T s - x_t)^2 with
    k k^T replaced by its diagonal, as the model does. State ``state`` numbers a channel. The decays depend on channel
    and state in a way that does not factor, so length x channels x state numbers are held. Source: arXiv 2407.14207.
    """
    tensors(query=query, key=key, beta=beta)
    if not query.dim() == key.dim() == beta.dim() == 3:
        shapes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in (("query", query), ("key", key), ("beta", beta)))
        raise InputError(f"query and key must be (batch, time, state), beta (batch, time, channels): got {shapes}")
    if bool((beta < 0).any()):
        raise InputError(f"beta must not be negative, its smallest value is {float(beta.min()):.3g}: it is a sigmoid's")
    square = wide(key) ** 2
    rate = wide(beta) / (1 + wide(beta) * square.sum(-1, keepdim=True))
    return CoefficientDynamics(
        query=query[:, :, None],
        key=key[:, :, None],
        scaling=rate,
        evolution=Diagonal(decay=1 - rate[..., None] * square[:, :, None]),
        support=Support(segments=segments),
    )


register(
    Family(
        name="longhorn",
        title="Longhorn",
        function=longhorn,
        example=lambda d: {
            "query": d.normal(d.batch, d.time, d.dim),
            "key": d.normal(d.batch, d.time, d.dim),
            "beta": d.gates(),
            "value": d.values(1),
        },
        evolution="Diag(1 - d_t k^2)",
        key="d_t k ; q",
        state="n",
        source="arXiv 2407.14207",
        note="a head a channel; d_t = beta / (1 + beta k^T k)",
    ),
)
