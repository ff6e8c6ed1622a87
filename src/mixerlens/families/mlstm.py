"""mLSTM, the matrix memory of xLSTM: exponential input gates, and a normaliser with a floor."""

from __future__ import annotations

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Scalar
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.exponentials import from_peak, held
from mixerlens.families.family import Family, register
from mixerlens.normalizer import NoNormalizer, Normalizer, RowSumFloor
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["mlstm"]


def mlstm(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time heads dim"],
    log_input: Float[Tensor, "batch time heads"],
    log_forget: Float[Tensor, "batch time heads"],
    floor: float | Float[Tensor, "#batch #time #heads"] | None = 1.0,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """C_t = f_t C_{t-1} + e^{i_t} k_t v_t^T, n_t = f_t n_{t-1} + e^{i_t} k_t, y_t = C_t^T q_t / max(|n_t^T q_t|, 1).

    query, key (batch, time, heads, dim), query already scaled; log_input: i, of any sign (of a sigmoid gate the
    logarithm), -inf writes nothing; log_forget: log f <= 0; both (batch, time, heads). floor: a number or (batch | 1,
    time | 1, heads | 1), 1 in the paper; None is no normaliser at all, eta = 1. State dim a value channel, dim for n.

    e^i may overflow. A constant taken out of the input gates and of the floor alike leaves alpha as it is, so with a
    floor the largest gate above 1 of each sequence and head is divided out, and the state is in its units (stabilised
    kernels carry another unit at each token; the map is the same). The floor bounds eta from below, it does not bound
    sum_j |alpha_ij|. Gates too wide for float32 are computed in float64, and refused with InputError where float64 is
    too narrow as well. Source: arXiv 2405.04517.
    """
    tensors(query=query, key=key, log_input=log_input, log_forget=log_forget)
    forgets("log_forget", log_forget, "it is the logarithm of a gate in (0, 1], log sigmoid for instance")
    if query.dim() != 4 or log_input.dim() != 3:
        shapes = f"{tuple(query.shape)} and {tuple(log_input.shape)}"
        raise InputError(f"query must be (batch, time, heads, dim) and log_input (batch, time, heads): got {shapes}")
    below, peak = from_peak(log_input, segments)
    normalizer: Normalizer = NoNormalizer()
    unit = torch.zeros_like(peak)
    if floor is not None:
        unit = peak.clamp(min=0)
        level = torch.as_tensor(floor, dtype=torch.float64, device=peak.device)
        normalizer = RowSumFloor(torch.exp(-unit) * wide(level if level.dim() else level.expand(1, 1, 1)))
    return CoefficientDynamics(
        query=held(max(float(peak.max()), 0.0), query, "log input gates"),
        key=key,
        scaling=torch.exp(below + (peak - unit)),
        evolution=Scalar(log_decay=log_forget),
        normalizer=normalizer,
        support=Support(segments=segments),
    )


register(
    Family(
        name="mlstm",
        title="mLSTM (xLSTM)",
        function=mlstm,
        example=lambda d: {
            "query": d.vectors() / d.dim**0.5,
            "key": d.vectors(),
            "log_input": d.gates(low=-3.0, high=3.0),
            "log_forget": d.log_decays(),
            "value": d.values(),
        },
        evolution="f_t I",
        key="e^i k ; q",
        normalizer="max(|row sum|, 1)",
        state="n + n",
        source="arXiv 2405.04517",
        note="the model's query is q / sqrt n, scaled by the caller; sum_j |alpha_ij| is not bounded",
    ),
)
