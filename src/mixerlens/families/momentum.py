"""Linear memories that are trained while they read: Titans with momentum and without, TTT-Linear."""

from __future__ import annotations

import torch
from jaxtyping import Inexact, Int
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import DiagonalPlusRankOne, Momentum
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.delta import delta_net
from mixerlens.families.family import Family, register
from mixerlens.families.weights import weighted
from mixerlens.support import Support

__all__ = ["titans_linear", "ttt_linear"]


def titans_linear(
    query: Inexact[Tensor, "batch time groups dim"],
    key: Inexact[Tensor, "batch time groups dim"],
    rate: Inexact[Tensor, "batch time heads"],
    log_decay: Inexact[Tensor, "batch time heads"],
    momentum: Inexact[Tensor, "batch time heads"] | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = momentum_t S_{t-1} - rate_t k_t (M_{t-1}^T k_t - v_t)^T, M_t = a_t M_{t-1} + S_t, y_t = M_t^T q_t.

    query, key (batch, time, heads | groups, dim), used as given; rate, momentum, log_decay (batch, time, heads),
    a_t = exp(log_decay_t) = 1 - alpha_t <= 1 (positive log decays raise InputError). S is the surprise: gradient steps
    on |M^T k - v|^2 / 2, so that for the loss without the half ``rate`` is twice the learning rate. Both start at 0.

    With momentum the state (M, S) has 2 dim numbers a value channel, and k enters both. Without, M alone is left:
    M_t = (a_t I - rate_t k_t k_t^T) M_{t-1} + rate_t k_t v_t^T, a gated delta rule whose correction reads the state
    before the decay, as Comba's does; dim numbers. A memory of more than one layer is not linear in the values and no
    member. Source: arXiv 2501.00663.
    """
    tensors(query=query, key=key, rate=rate, log_decay=log_decay)
    forgets("log_decay", log_decay, "it is the logarithm of 1 - alpha")
    support = Support(segments=segments)
    if momentum is None:
        evolution = DiagonalPlusRankOne(-key, weighted(key=key, rate=rate), log_decay=log_decay.unsqueeze(-1))
        return CoefficientDynamics(query, key, evolution, scaling=rate, support=support)
    tensors(momentum=momentum)
    return CoefficientDynamics(
        query=pad(query, (0, query.shape[-1])),
        key=torch.cat([key, key], -1),
        evolution=Momentum(key, rate, momentum, log_decay=log_decay),
        scaling=rate,
        support=support,
    )


def ttt_linear(
    query: Inexact[Tensor, "batch time groups dim"],
    key: Inexact[Tensor, "batch time groups dim"],
    learning_rate: Inexact[Tensor, "batch time heads"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """W_t = W_{t-1} - learning_rate_t grad |W^T k_t - v_t|^2 at W_{t-1}, y_t = W_t^T q_t: test-time training by one
    step a token on a linear inner model without layer norm, from W_0 = 0.

    query, key (batch, time, heads | groups, dim), used as given; learning_rate (batch, time, heads). It is DeltaNet
    with beta = 2 learning_rate. With layer norm or an MLP inside it is not linear in the values, and no member; a
    mini-batch of several tokens, whose gradients are taken at one W, is another mixer. State dim a value channel.
    Source: arXiv 2407.04620.
    """
    tensors(query=query, key=key, learning_rate=learning_rate)
    return delta_net(query, key, 2 * learning_rate, segments)


register(
    Family(
        name="titans_linear",
        title="Titans, linear memory with momentum",
        function=titans_linear,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.units(),
            "rate": d.gates(),
            "log_decay": d.log_decays(),
            "momentum": d.gates(high=0.9),
            "value": d.values(),
        },
        evolution="[[a I - theta k k^T, m I], [-theta k k^T, m I]]",
        key="theta (k, k) ; (q, 0)",
        state="2 n",
        source="arXiv 2501.00663",
    ),
    Family(
        name="titans_linear_plain",
        title="Titans, linear memory without momentum",
        function=titans_linear,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.units(),
            "rate": d.gates(),
            "log_decay": d.log_decays(),
            "value": d.values(),
        },
        evolution="a I - theta k k^T",
        key="theta k ; q",
        state="n",
        source="arXiv 2501.00663",
        note="a gated delta rule that corrects before it decays",
    ),
    Family(
        name="ttt_linear",
        title="TTT-Linear without layer norm",
        function=ttt_linear,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.units(),
            "learning_rate": d.gates(high=0.99),
            "value": d.values(),
        },
        evolution="I - 2 eta k k^T",
        key="2 eta k ; q",
        state="n",
        source="arXiv 2407.04620",
        note="DeltaNet with beta = 2 eta; one step a token; with layer norm or an MLP no member",
    ),
)
