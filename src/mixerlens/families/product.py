"""Several writes a token: DeltaProduct, gated or not, and PRISM.

Micro-step m of a token writes its own value with its own key. The micro-steps of head h are the heads h * steps + m of
the dynamics, m = 0 first: they share A_t, so every token stays one row and one column, and the mixer's output is the
sum of the micro-steps' outputs. Values are (batch, time, heads * steps, value_dim) in that order, and

    y = (dynamics.operator() @ values).unflatten(2, (-1, steps)).sum(3)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Inexact, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Delta, MicroSteps
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.draw import Draw
from mixerlens.families.family import Family, register
from mixerlens.shapes import spread, wide
from mixerlens.support import Support

__all__ = ["delta_product", "gated_delta_product", "prism"]


def delta_product(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time groups steps dim"],
    beta: Inexact[Tensor, "batch time heads steps"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S <- (I - b_m k_m k_m^T) S + b_m k_m v_m^T for the micro-steps m of a token in turn, then y_t = S^T q_t.

    query (batch, time, heads | groups, dim); key (batch, time, heads | groups, steps, dim), used as given: callers
    normalise; beta (batch, time, heads, steps), for unit keys in (0, 2). Values: a head a micro-step, see the module.
    A_t = H_M ... H_1 with H_m = I - b_m k_m k_m^T; what micro-step m writes is b_m H_M ... H_{m+1} k_m v_m^T. Two steps
    make a rotation, one is a reflection. State dim a value channel. Source: arXiv 2502.10297.
    """
    tensors(query=query, key=key, beta=beta)
    return _product(query, key, beta, None, segments)


def gated_delta_product(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time groups steps dim"],
    log_decay: Inexact[Tensor, "batch time heads"],
    beta: Inexact[Tensor, "batch time heads steps"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """As delta_product, the state decayed by exp(log_decay_t) once, before the first micro-step of token t.

    log_decay (batch, time, heads) <= 0; positive values raise InputError. Source: arXiv 2502.10297.
    """
    tensors(query=query, key=key, log_decay=log_decay, beta=beta)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1]")
    return _product(query, key, beta, log_decay, segments)


def prism(
    query: Inexact[Tensor, "batch time heads dim"],
    key: Inexact[Tensor, "batch time groups steps dim"],
    gain: Inexact[Tensor, "batch time heads steps"],
    erase: Inexact[Tensor, "batch time groups dim"],
    beta: Inexact[Tensor, "batch time heads"],
    log_decay: Inexact[Tensor, "batch time heads"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """S_t = exp(log_decay_t) (I - beta_t e_t e_t^T) S_{t-1} + sum_m gain_m k_m v_m^T, y_t = S_t^T q_t.

    query, erase e (batch, time, heads | groups, dim); key (batch, time, heads | groups, steps, dim); gain
    (batch, time, heads, steps); beta, log_decay (batch, time, heads), log_decay <= 0 (positive values raise
    InputError). Values: a head a micro-step, see the module; they are the refined residuals, which the model computes
    from the input alone, without the state. Forgetting is a delta rule's, writing has rank ``steps`` and takes nothing
    off. This is the equation of the paper; the released code differs (it averages the erase key over a chunk, clamps
    the state, and pairs summed keys with summed values inside a chunk). State dim a value channel. Source: arXiv
    2602.10796.
    """
    tensors(query=query, key=key, gain=gain, erase=erase, beta=beta, log_decay=log_decay)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1]")
    every = _systems(query=query, key=key, gain=gain)
    heads = every // key.shape[3]
    evolution = Delta(erase, spread(beta, every, 2), log_decay=spread(log_decay, every, 2))
    written = spread(key, heads, 2).expand(-1, -1, heads, -1, -1).flatten(2, 3)
    scaling = spread(gain, heads, 2).expand(-1, -1, heads, -1).flatten(2)
    return CoefficientDynamics(query, written, evolution, scaling=scaling, support=Support(segments=segments))


def _product(
    query: Tensor, key: Tensor, beta: Tensor, log_decay: Tensor | None, segments: Tensor | None
) -> CoefficientDynamics:
    """All steps of a token as one A_t; the key of a step is what has become of its own at the end of the token."""
    every = _systems(query=query, key=key, beta=beta)
    heads, steps = every // key.shape[3], key.shape[3]
    k, b = wide(spread(key, heads, 2)), wide(spread(beta, heads, 2)).unsqueeze(-1)
    k, b = k.expand(-1, -1, heads, -1, -1), b.expand(-1, -1, heads, -1, -1)
    left = k[..., :1, :]
    for m in range(1, steps):
        k_m, b_m = k[..., m : m + 1, :], b[..., m : m + 1, :]
        left = torch.cat([left - (left @ k_m.mT) * b_m * k_m, k_m], -2)
    evolution = MicroSteps(key, spread(beta, every, 2), None if log_decay is None else spread(log_decay, every, 2))
    written = left.flatten(2, 3).to(key.dtype)
    return CoefficientDynamics(
        query, written, evolution, scaling=b.flatten(2).to(beta.dtype), support=Support(segments=segments)
    )


def _systems(query: Tensor, **stepped: Tensor) -> int:
    """heads * steps, from the query and from what has a micro-step axis after its heads."""
    key, other = stepped.values()
    shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in {"query": query, **stepped}.items())
    if query.dim() != 4 or key.dim() != 5 or other.dim() != 4 or key.shape[3] != other.shape[3]:
        raise InputError(f"a key a micro-step, (batch, time, heads, steps, dim), and a number for each: got {shapes}")
    heads = max(x.shape[2] for x in (query, key, other))
    if any(heads % x.shape[2] for x in (query, key, other)):
        raise InputError(f"head groups must divide the {heads} heads: got {shapes}")
    return heads * key.shape[3]


STEPS = 2


def _keys(d: Draw) -> Tensor:
    """A unit vector a micro-step."""
    return torch.nn.functional.normalize(d.normal(d.batch, d.time, d.heads, STEPS, d.dim), dim=-1)


def _row(name: str, title: str, function: Callable[..., CoefficientDynamics], gated: bool) -> Family:
    return Family(
        name=name,
        title=title,
        function=function,
        example=lambda d: {
            "query": d.vectors(),
            "key": _keys(d),
            "beta": d.gates(STEPS, high=1.99),
            **({"log_decay": d.log_decays()} if gated else {}),
            "value": d.values(heads=d.heads * STEPS),
        },
        evolution=f"{'a ' if gated else ''}H_M ... H_1, H = I - beta k k^T",
        key="beta_m H_M ... H_{m+1} k_m, every step m ; q",
        state="n",
        source="arXiv 2502.10297",
        note="M writes a token, a head a write; the output is their sum",
    )


register(
    _row("delta_product", "DeltaProduct", delta_product, gated=False),
    _row("gated_delta_product", "Gated DeltaProduct", gated_delta_product, gated=True),
    Family(
        name="prism",
        title="PRISM",
        function=prism,
        example=lambda d: {
            "query": d.vectors(),
            "key": _keys(d),
            "gain": d.gates(STEPS),
            "erase": d.units(),
            "beta": d.gates(high=1.99),
            "log_decay": d.log_decays(),
            "value": d.values(heads=d.heads * STEPS),
        },
        evolution="a (I - beta e e^T)",
        key="gain_m k_m, every step m ; q",
        state="n",
        source="arXiv 2602.10796",
        note="the paper's equation, the released code differs; a head a write, the output is their sum",
    ),
)
