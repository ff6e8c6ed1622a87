"""Softmax attention whose positions depend on the data: a forget gate beside the score, or reflections inside it."""

from __future__ import annotations

from jaxtyping import Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta, Evolution
from mixerlens.families.attention import with_bias
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.normalizer import RowSum
from mixerlens.readout import Exp
from mixerlens.support import Support

__all__ = ["forgetting_attention", "path_attention"]


def forgetting_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time kv_heads dim"],
    log_forget: Inexact[Tensor, "batch time heads"],
    scale: float | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = sum_j softmax_j(scale q_i^T k_j + sum_{j<l<=i} log f_l) v_j: the forgetting transformer.

    query (batch, time, heads, dim), key (batch, time, kv_heads, dim) with kv_heads dividing heads; log_forget: log f
    (batch, time, heads), finite and <= 0; scale: default 1 / sqrt(dim). As ALiBi with a slope a token: a unipotent
    evolution on (k, 0, 1), read by (q, 1, 0). State: grows with the sequence. Source: arXiv 2503.02130.
    """
    tensors(query=query, key=key, log_forget=log_forget)
    forgets("log_forget", log_forget, "it is the logarithm of a gate in (0, 1], log sigmoid for instance")
    key = key * (query.shape[-1] ** -0.5 if scale is None else scale)
    query, key, evolution = with_bias(query, key, log_forget)
    return _softmax(query, key, evolution, segments)


def path_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time kv_heads dim"],
    direction: Inexact[Tensor, "batch time heads dim"],
    beta: Inexact[Tensor, "batch time heads"],
    scale: float | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = sum_j softmax_j(scale q_i^T H_i H_{i-1} ... H_{j+1} k_j) v_j with H_t = I - beta_t w_t w_t^T: PaTH.

    query (batch, time, heads, dim), key (batch, time, kv_heads, dim); direction: w (batch, time, heads | groups, dim),
    used as given (the model normalises it); beta (batch, time, heads), in (0, 2) for products that do not grow, which
    is not enforced; scale: default 1 / sqrt(dim). State: grows with the sequence. Source: arXiv 2505.16381.
    """
    tensors(query=query, key=key, direction=direction, beta=beta)
    key = key * (query.shape[-1] ** -0.5 if scale is None else scale)
    return _softmax(query, key, Delta(direction, beta), segments)


def _softmax(query: Tensor, key: Tensor, evolution: Evolution, segments: Tensor | None) -> CoefficientDynamics:
    support = Support(segments=segments)
    return CoefficientDynamics(query, key, evolution, readout=Exp(), normalizer=RowSum(), support=support)


register(
    Family(
        name="forgetting_transformer",
        title="Forgetting transformer (FoX)",
        function=forgetting_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "log_forget": d.log_decays(),
            "value": d.values(),
        },
        evolution="unipotent, n + 2, log f_t",
        key="(k, 0, 1) ; (q, 1, 0)",
        readout="exp",
        normalizer="row sum",
        state="grows",
        recurrence="grows",
        source="arXiv 2503.02130",
    ),
    Family(
        name="path_attention",
        title="PaTH attention",
        function=path_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "direction": d.units(),
            "beta": d.gates(high=1.99),
            "value": d.values(),
        },
        evolution="I - beta w w^T",
        key="k / sqrt n ; q",
        readout="exp",
        normalizer="row sum",
        state="grows",
        recurrence="grows",
        source="arXiv 2505.16381",
        note="a delta rule's evolution under softmax",
    ),
)
