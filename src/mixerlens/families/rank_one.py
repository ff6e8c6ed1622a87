"""Delta rules whose A_t is diagonal plus rank one: gates a dimension, and erase vectors that are not the key."""

from __future__ import annotations

import torch
from jaxtyping import Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import DiagonalPlusRankOne
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.families.weights import weighted
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["comba", "gated_delta_net_2", "kimi_delta_attention"]


def kimi_delta_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time groups dim"],
    log_decay: Inexact[Tensor, "batch time heads dim"],
    beta: Inexact[Tensor, "batch time heads"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = (I - beta_t k_t k_t^T) Diag(exp(log_decay_t)) S_{t-1} + beta_t k_t v_t^T, y_t = S_t^T q_t.

    query, key (batch, time, heads | groups, dim), used as given: callers normalise keys and scale queries. log_decay
    (batch, time, heads, dim) <= 0, -inf closes the gate of a dimension; positive values raise InputError. beta
    (batch, time, heads). The order matters: the gate acts before the correction, and the two commute only where the
    gate is the same in every dimension, which is gated DeltaNet. State dim a value channel. Source: arXiv 2510.26692.
    """
    tensors(query=query, key=key, log_decay=log_decay, beta=beta)
    evolution = _gated(key, log_decay, key=key, beta=beta)
    return CoefficientDynamics(query, key, evolution, scaling=beta, support=Support(segments=segments))


def gated_delta_net_2(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time groups dim"],
    log_decay: Inexact[Tensor, "batch time heads dim"],
    erase: Inexact[Tensor, "batch time heads dim"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = (I - k_t (erase_t . k_t)^T) Diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T, y_t = S_t^T q_t.

    query, key (batch, time, heads | groups, dim), used as given. log_decay (batch, time, heads, dim) <= 0; positive
    values raise InputError. erase (batch, time, heads, dim): the gate on the key's dimensions. The write gate, one
    number a value channel, acts on the values: pass write . v as values. With both gates the same number beta in every
    dimension it is Kimi Delta Attention. State dim a value channel. Source: arXiv 2605.22791.
    """
    tensors(query=query, key=key, log_decay=log_decay, erase=erase)
    evolution = _gated(key, log_decay, key=key, erase=erase)
    return CoefficientDynamics(query, key, evolution, support=Support(segments=segments))


def comba(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time groups dim"],
    feedback: Inexact[Tensor, "batch time groups dim"],
    log_decay: Inexact[Tensor, "batch time heads"],
    beta: Inexact[Tensor, "batch time heads"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = (a_t I - beta_t k_t p_t^T) S_{t-1} + beta_t k_t v_t^T, a_t = exp(log_decay_t), y_t = S_t^T q_t.

    query, key, feedback p (batch, time, heads | groups, dim), used as given; log_decay (batch, time, heads) <= 0
    (positive values raise InputError); beta (batch, time, heads). The model has p = b k with one learned b in (0, 1) a
    head, and corrects its output by reading with q - d p, one learned d a head: pass that as query, after the norms.
    The correction reads the state before the decay, so A_t is a_t (I - beta k p^T) with p / a_t for p. State dim a
    value channel. Source: arXiv 2506.02475.
    """
    tensors(query=query, key=key, feedback=feedback, log_decay=log_decay, beta=beta)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1]")
    evolution = DiagonalPlusRankOne(-key, weighted(feedback=feedback, beta=beta), log_decay=log_decay.unsqueeze(-1))
    return CoefficientDynamics(query, key, evolution, scaling=beta, support=Support(segments=segments))


def _gated(left: Tensor, log_decay: Tensor, **erased: Tensor) -> DiagonalPlusRankOne:
    """(I - left e^T) Diag(g) with e the product of ``erased``: the gate reaches the erase vector too."""
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1]")
    right = weighted(**erased, log_decay=torch.exp(wide(log_decay)))
    return DiagonalPlusRankOne(-left, right, log_decay=log_decay)


register(
    Family(
        name="kimi_delta_attention",
        title="Kimi Delta Attention",
        function=kimi_delta_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.units(),
            "log_decay": d.log_decays(d.dim),
            "beta": d.gates(high=1.99),
            "value": d.values(),
        },
        evolution="(I - beta k k^T) Diag(g)",
        key="beta k ; q",
        state="n",
        source="arXiv 2510.26692",
        note="the order of gate and correction matters",
    ),
    Family(
        name="gated_delta_net_2",
        title="Gated DeltaNet-2",
        function=gated_delta_net_2,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.units(),
            "log_decay": d.log_decays(d.dim),
            "erase": d.gates(d.dim),
            "value": d.values(),
        },
        evolution="(I - k (e . k)^T) Diag(g)",
        key="k ; q",
        state="n",
        source="arXiv 2605.22791",
        note="oblique; the write gate acts on the values",
    ),
    Family(
        name="comba",
        title="Comba",
        function=comba,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.units(),
            "feedback": d.units(),
            "log_decay": d.log_decays(),
            "beta": d.gates(),
            "value": d.values(),
        },
        evolution="a I - beta k p^T",
        key="beta k ; q - d p",
        state="n",
        source="arXiv 2506.02475",
        note="oblique; the model has p = b k; a (I - beta k p^T) with p / a for p",
    ),
)
