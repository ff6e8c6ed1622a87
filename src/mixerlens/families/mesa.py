"""MesaNet: one mixer makes the query of another."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Scalar
from mixerlens.families.checks import forgets, tensors
from mixerlens.families.family import Family, register
from mixerlens.operator.memory import require
from mixerlens.shapes import spread, wide
from mixerlens.support import Support

__all__ = ["mesa_net"]


def mesa_net(
    query: Float[Tensor, "batch time groups dim"],
    key: Float[Tensor, "batch time groups dim"],
    log_decay: Float[Tensor, "batch time heads"],
    beta: Float[Tensor, "batch time heads"],
    ridge: Float[Tensor, "heads dim"],
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """y_t = G_t^T (H_t + Diag(ridge))^{-1} q_t: the least-squares fit of all values so far, read by the query.

    G_t = a_t G_{t-1} + beta_t k_t v_t^T and H_t = a_t H_{t-1} + beta_t k_t k_t^T with a_t = exp(log_decay_t).

    query, key (batch, time, heads | groups, dim), real, used as given; log_decay <= 0 and beta >= 0
    (batch, time, heads); ridge > 0 (heads, dim), which makes every H_t + Diag(ridge) positive definite. Raises
    InputError for numbers outside. Two chained systems: H is the state of a linear mixer whose values are its keys,
    read here with one query a dimension, and y is another with the solved queries, so that alpha depends on all earlier
    keys through its rows. Both are in float64 up to the solution, whose error grows with the condition of H_t. The
    released kernels stop conjugate gradients early instead of solving. State dim numbers a value channel and dim^2 a
    head for H. Source: arXiv 2506.05233.
    """
    tensors(query=query, key=key, log_decay=log_decay, beta=beta, ridge=ridge)
    forgets("log_decay", log_decay, "it is the logarithm of a decay in (0, 1]")
    _solvable(query, key, beta, ridge)
    solved = _ridge_regression(query, key, log_decay, beta, ridge, segments)
    evolution = Scalar(log_decay=log_decay)
    return CoefficientDynamics(solved.to(query.dtype), key, evolution, scaling=beta, support=Support(segments=segments))


def _ridge_regression(
    query: Tensor, key: Tensor, log_decay: Tensor, beta: Tensor, ridge: Tensor, segments: Tensor | None
) -> Tensor:
    """(H_t + Diag(ridge))^{-1} q_t in float64, (batch, time, heads, dim)."""
    heads, dim = max(query.shape[2], key.shape[2], beta.shape[2]), key.shape[-1]
    require(
        "mesa_net", max(query.shape[0], key.shape[0]), key.shape[1], heads * dim, dim, dtype=torch.float64, copies=4,
        instead="cut the sequence or take fewer heads: every token has a matrix dim x dim of its own",
    )  # fmt: skip
    keys = wide(spread(key, heads, 2))
    one = keys.new_ones(1, 1, 1, 1)  # H_t is the state of a mixer of one number whose values are k k^T
    memory = CoefficientDynamics(
        one.expand(1, keys.shape[1], heads, 1),
        one.expand(1, keys.shape[1], heads, 1),
        Scalar(log_decay=wide(log_decay)),
        scaling=wide(beta),
        support=Support(segments=segments),
    )
    rows = (memory.operator() @ (keys.unsqueeze(-1) * keys.unsqueeze(-2)).flatten(-2)).unflatten(-1, (dim, dim))
    system = rows + torch.diag_embed(wide(ridge))
    return torch.linalg.solve(system, wide(spread(query, heads, 2)).unsqueeze(-1)).squeeze(-1)


def _solvable(query: Tensor, key: Tensor, beta: Tensor, ridge: Tensor) -> None:
    """Raise InputError unless H + Diag(ridge) is positive definite at every token."""
    if query.is_complex() or key.is_complex():
        raise InputError("MesaNet's query and key are real: a complex Gram matrix need not have an inverse")
    fits = query.dim() == key.dim() == 4 and ridge.dim() == 2 and ridge.shape[1] == key.shape[3] == query.shape[3]
    heads = max(query.shape[2], key.shape[2], beta.shape[-1]) if fits else 0
    if not fits or ridge.shape[0] not in (1, heads) or any(heads % x.shape[2] for x in (query, key)):
        raise InputError(
            f"ridge must be (heads, dim) beside query and key (batch, time, heads, dim): got {tuple(ridge.shape)}, "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    if not bool((beta >= 0).all()) or not bool((ridge > 0).all()):
        raise InputError(
            f"beta must not be negative and ridge must be positive, their smallest values are {float(beta.min()):.3g} "
            f"and {float(ridge.min()):.3g}: else H + ridge need not have an inverse"
        )


register(
    Family(
        name="mesa_net",
        title="MesaNet",
        function=mesa_net,
        example=lambda d: {
            "query": d.vectors(),
            "key": d.units(),
            "log_decay": d.log_decays(most=0.3),
            "beta": d.gates(),
            "ridge": d.uniform(d.heads, d.dim, low=0.25),
            "value": d.values(),
        },
        evolution="a I",
        key="beta k ; (H_t + Lambda)^{-1} q, H_t = a H_{t-1} + beta k k^T",
        state="n + n^2",
        source="arXiv 2506.05233",
        note="two chained systems: the query depends on all earlier keys",
    ),
)
