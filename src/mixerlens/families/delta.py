"""Delta rules: the state forgets what the new key would overwrite."""

from __future__ import annotations

from jaxtyping import Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.support import Support

__all__ = ["delta_net", "gated_delta_net"]


def delta_net(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    beta: Inexact[Tensor, "batch time heads"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T, y_t = S_t^T q_t.

    query, key (batch, time, heads | groups, dim), used as given: callers normalise keys and scale queries. beta
    (batch, time, heads); for unit keys the state does not grow while beta is in (0, 2), which is not enforced. State
    dim a value channel. Source: arXiv 2406.06484.
    """
    tensors(query=query, key=key, beta=beta)
    return CoefficientDynamics(query, key, Delta(key, beta), scaling=beta, support=Support(segments=segments))


def gated_delta_net(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    log_decay: Inexact[Tensor, "batch time heads"],
    beta: Inexact[Tensor, "batch time heads"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = exp(log_decay_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T, y_t = S_t^T q_t.

    As delta_net, with log_decay (batch, time, heads) <= 0; positive values raise InputError. Source: arXiv 2412.06464.
    """
    tensors(query=query, key=key, log_decay=log_decay, beta=beta)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1]")
    evolution = Delta(key, beta, log_decay=log_decay)
    return CoefficientDynamics(query, key, evolution, scaling=beta, support=Support(segments=segments))


register(
    Family(
        name="delta_net",
        title="DeltaNet",
        function=delta_net,
        example=lambda d: {"query": d.vectors(), "key": d.units(), "beta": d.gates(high=1.99), "value": d.values()},
        evolution="I - beta k k^T",
        key="beta k ; q",
        state="n",
        source="arXiv 2406.06484",
        note="beta in (0, 2) for unit keys",
    ),
    Family(
        name="gated_delta_net",
        title="Gated DeltaNet",
        function=gated_delta_net,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.units(),
            "log_decay": d.log_decays(),
            "beta": d.gates(high=1.99),
            "value": d.values(),
        },
        evolution="a (I - beta k k^T)",
        key="beta k ; q",
        state="n",
        source="arXiv 2412.06464",
    ),
)
