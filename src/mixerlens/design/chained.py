"""One token of a chained mixer: the state of the system whose reading makes the queries, and those queries.

    slots    K_t = Diag(a_t) K_{t-1} + (1 - a_t) k_t^T,      the query of the values' system is softmax(K_t q_t)
    ridge    H_t = a_t H_{t-1} + b_t k_t k_t^T,              it is (H_t + Diag(ridge))^{-1} q_t

The first system reads the keys as its values, so that its state is all that has to be carried.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mixerlens.design.assembly import Assembly
from mixerlens.design.parts.evolution.decaying import opened
from mixerlens.design.recurrent import Held, Memory, advance
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal
from mixerlens.normalizer import NoNormalizer
from mixerlens.readout import Identity
from mixerlens.shapes import spread, tile, wide

__all__ = ["CHAINED", "chained"]


def chained(assembly: Assembly, held: tuple[Held, ...] | None) -> tuple[CoefficientDynamics, tuple[Held, ...]]:
    """The dynamics of one token, and what the first system holds after it."""
    return CHAINED[assembly.spec.system.kind](assembly, held)


def _slots(a: Assembly, held: tuple[Held, ...] | None) -> tuple[CoefficientDynamics, tuple[Held, ...]]:
    decay = a.decay()
    written = opened(decay).to(a.dtype)
    keys = CoefficientDynamics(written, written, Diagonal(**decay.named), length=1)
    slots, held = _state(keys, a.key, held)
    asked = torch.softmax(slots @ _column(a.query, slots.shape[1]), -2)
    return a.dynamics(asked.mT.to(a.dtype).transpose(1, 2), written), held


def _ridge(a: Assembly, held: tuple[Held, ...] | None) -> tuple[CoefficientDynamics, tuple[Held, ...]]:
    keys = replace(a.dynamics(a.key, a.key), readout=Identity(), normalizer=NoNormalizer())
    gram, held = _state(keys, a.key, held)
    system = gram + torch.diag_embed(wide(a["ridge"])[:, 0])
    asked = torch.linalg.solve(system, _column(a.query, gram.shape[1]))
    return a.dynamics(asked.mT.to(a.dtype).transpose(1, 2), a.key), held


def _state(d: CoefficientDynamics, values: Tensor, held: tuple[Held, ...] | None) -> tuple[Tensor, tuple[Held, ...]]:
    """The state after the token, (batch, heads, dim, value_dim)."""
    _, after = advance(d, values, held)
    (memory,) = after
    assert isinstance(memory, Memory)
    return memory.state, after


def _column(query: Tensor, heads: int) -> Tensor:
    """(batch, 1, heads, dim) -> (batch, heads, dim, 1), float64."""
    return wide(spread(tile(query, 0, 1), heads)).mT


CHAINED = {"slots": _slots, "ridge": _ridge}
