"""Based: softmax's exponential cut after its second order, which leaves a finite state."""

from __future__ import annotations

from jaxtyping import Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.families.checks import tensors
from mixerlens.families.family import Family, register
from mixerlens.normalizer import RowSum
from mixerlens.readout import Polynomial
from mixerlens.support import Support

__all__ = ["based"]


def based(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time kv_heads dim"],
    scale: float | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_i = sum_j phi(scale q_i^T k_j) v_j / sum_j phi(scale q_i^T k_j), phi(z) = 1 + z + z^2 / 2.

    query (batch, time, heads, dim), key (batch, time, kv_heads, dim); scale: default 1 / sqrt(dim). phi >= 1/2 for real
    scores, so eta is never zero. phi is not linear in the state of dim numbers, but it is in the symmetric powers of q
    and k: lifted to (1, k, k (x) k) the state has (n + 1)(n + 2) / 2 numbers a value channel. The sliding-window
    attention of other layers of the model is softmax_attention. Source: arXiv 2402.18668.
    """
    tensors(query=query, key=key)
    key = key * (query.shape[-1] ** -0.5 if scale is None else scale)
    return CoefficientDynamics(
        query,
        key,
        readout=Polynomial((1.0, 1.0, 0.5)),
        normalizer=RowSum(),
        support=Support(segments=segments),
    )


register(
    Family(
        name="based",
        title="Based",
        function=based,
        example=lambda d: {"query": d.vectors(), "key": d.vectors(), "value": d.values()},
        evolution="I",
        key="k / sqrt n ; q",
        readout="1 + z + z^2 / 2",
        normalizer="row sum",
        state="(n + 1)(n + 2) / 2",
        recurrence="by lifting",
        source="arXiv 2402.18668",
        note="linear in the symmetric powers of q and k",
    ),
)
