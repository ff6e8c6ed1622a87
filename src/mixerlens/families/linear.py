"""Linear attention and its decayed forms: phi is the identity, so a state of fixed size carries the past."""

from __future__ import annotations

from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Identity, Rotation, Scalar
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.normalizer import NoNormalizer, RowSum
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["gated_linear_attention", "linear_attention", "retention"]


def linear_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    normalize: bool = False,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = S_{t-1} + k_t v_t^T, y_t = S_t^T q_t, divided by q_t^T sum_j k_j when ``normalize``.

    query, key (batch, time, heads, dim): feature maps are applied by the caller. A_t = I; state dim (+ dim for the
    normaliser) a value channel. With signed features the normaliser may cross zero. Source: arXiv 2006.16236.
    """
    tensors(query=query, key=key)
    normalizer = RowSum() if normalize else NoNormalizer()
    return CoefficientDynamics(query, key, Identity(), normalizer=normalizer, support=Support(segments=segments))


def retention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    decay: Inexact[Tensor, " heads"],
    rope: Float[Tensor, " pairs"] | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = decay R(-rope) S_{t-1} + k_t v_t^T, y_t = S_t^T q_t.

    query, key (batch, time, heads, dim); decay (heads,), real or complex, zero and growth (|decay| > 1) allowed;
    rope: angles (dim / 2,) in radians a token, layout "half". State dim a value channel. Source: RetNet, arXiv
    2307.08621 (its scale, group norm and gate act outside).
    """
    tensors(query=query, key=key, decay=decay)
    if rope is None:
        return CoefficientDynamics(query, key, Scalar(decay=decay), support=Support(segments=segments))
    evolution = Rotation(-wide(rope), decay=decay)
    return CoefficientDynamics(query, key, evolution, support=Support(segments=segments))


def gated_linear_attention(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    log_decay: Inexact[Tensor, "batch time heads dim"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = Diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T, y_t = S_t^T q_t.

    query, key, log_decay (batch, time, heads, dim), log_decay <= 0 (-inf closes the gate; positive values
    raise InputError). State dim a value channel. Source: arXiv 2312.06635.
    """
    tensors(query=query, key=key, log_decay=log_decay)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1], log sigmoid for instance")
    return CoefficientDynamics(query, key, Diagonal(log_decay=log_decay), support=Support(segments=segments))


register(
    Family(
        name="linear_attention",
        title="Linear attention",
        function=linear_attention,
        example=lambda d: {"query": d.vectors(), "key": d.vectors(), "value": d.values()},
        evolution="I",
        key="psi(k) ; psi(q)",
        state="n",
        source="arXiv 2006.16236",
        note="feature maps psi are applied by the caller",
    ),
    Family(
        name="normalized_linear_attention",
        title="Linear attention, normalised",
        function=linear_attention,
        example=lambda d: {
            "query": d.gates(d.dim, low=0.1),
            "key": d.gates(d.dim, low=0.1),
            "normalize": True,
            "value": d.values(),
        },
        evolution="I",
        key="psi(k) ; psi(q)",
        normalizer="row sum",
        state="n + n",
        source="arXiv 2006.16236",
        note="with signed features eta may cross zero",
        bar=1e-9,
    ),
    Family(
        name="retnet",
        title="RetNet",
        function=retention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "decay": d.uniform(d.heads, low=0.8),
            "rope": d.normal(d.dim // 2),
            "value": d.values(),
        },
        evolution="gamma R(-theta)",
        key="k ; q",
        state="n",
        source="arXiv 2307.08621",
        note="scale, group norm and gate act outside",
    ),
    Family(
        name="lightning_attention",
        title="Lightning attention (MiniMax)",
        function=retention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "decay": d.uniform(d.heads, low=0.8),
            "value": d.values(),
        },
        evolution="gamma I",
        key="k ; q",
        state="n",
        source="arXiv 2401.04658",
    ),
    Family(
        name="gated_linear_attention",
        title="GLA",
        function=gated_linear_attention,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.vectors(),
            "log_decay": d.log_decays(d.dim),
            "value": d.values(),
        },
        evolution="Diag(g_t)",
        key="k ; q",
        state="n",
        source="arXiv 2312.06635",
        note="the model's query is q / sqrt n, scaled by the caller",
    ),
)
