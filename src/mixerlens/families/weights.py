"""Vectors times a number or a gate a head, where head groups may share the vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.shapes import spread, wide


def weighted(**given: Tensor) -> Tensor:
    """The product of the given tensors in float64, (batch, time, heads, dim).

    One without a dim axis is a number a head; the heads of those with fewer are groups. Raises InputError, with all
    names and shapes, where they do not fit.
    """
    heads = max((x.shape[2] for x in given.values() if x.dim() > 2), default=0)
    fits = all(x.dim() in (3, 4) and x.shape[2] and heads % x.shape[2] == 0 for x in given.values())
    parts = (
        [spread(wide(x if x.dim() == 4 else x.unsqueeze(-1)), heads, axis=2) for x in given.values()] if fits else []
    )
    try:
        torch.broadcast_shapes(*(x.shape for x in parts))
    except RuntimeError:
        fits = False
    if not fits:
        listed = ", ".join(f"{name} {tuple(x.shape)}" for name, x in given.items())
        raise InputError(f"sizes do not fit (batch, time, heads[, dim]), groups dividing heads: {listed}")
    product = parts[0]
    for x in parts[1:]:
        product = product * x
    return product
