"""The state rank: how many numbers an exact causal recurrence must carry from one token to the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Diagonal, DiagonalPlusRankOne
from mixerlens.measures.parts import dynamics_of, first_tokens, head_groups, one_sequence
from mixerlens.measures.record import Record
from mixerlens.operator.rank import cut_positions, singular_values
from mixerlens.readout import RealPart

TOLERANCES = (1e-3, 1e-6, 1e-10)


@dataclass(frozen=True, eq=False)
class StateRank(Record):
    """max over cuts t of rank alpha[t:, :t], evaluated in float64.

    tolerances: relative to each block's largest singular value. ranks: (heads, tolerances) int.
    lower_bound: not every cut of every token was looked at. cap: the largest rank these cuts can show.
    tokens: how many of the ``of_tokens`` leading tokens were looked at. cuts: where.
    designed: numbers a value channel that the mixer's own recurrence carries; None where no such state exists (it
        grows, there is a window, or the readout is a polynomial, whose state is finite only after lifting).
    """

    tolerances: tuple[float, ...]
    ranks: Tensor
    lower_bound: bool
    cap: int
    tokens: int
    of_tokens: int
    cuts: tuple[int, ...]
    designed: int | None

    labels: ClassVar[dict[str, str]] = {
        "ranks": "Numbers a value channel that a causal recurrence must carry, one column a tolerance.",
        "tolerances": "Singular values below this part of the block's largest count as zero.",
        "cap": "The largest rank that could have been seen.",
        "designed": "What the mixer's own recurrence carries; null where there is no state of dim numbers.",
    }
    units: ClassVar[dict[str, str]] = {"ranks": "numbers", "cap": "numbers", "designed": "numbers"}

    @property
    def at_cap(self) -> Tensor:
        """bool (heads, tolerances): the measurement ended at its cap, the true rank may be larger."""
        return self.ranks >= self.cap

    def to_json(self) -> dict[str, Any]:
        names = ("tolerances", "ranks", "lower_bound", "cap", "tokens", "of_tokens", "cuts", "designed")
        return self._described({name: getattr(self, name) for name in names})


def state_rank(
    mixer: Any,
    tolerances: Sequence[float] = TOLERANCES,
    cuts: int | str | Iterable[int] = 16,
    *,
    sequence: int = 0,
    tokens: int | None = None,
) -> StateRank:
    """The state rank of each head at several tolerances, from one set of singular values.

    cuts: how many evenly spaced cuts (the middle always among them), "all", or a list. tokens: look at the leading
    tokens only, which bounds the rank from below (singular values cost the cube of the length for softmax).

    Raises InputError for tolerances outside [0, 1), fewer than two tokens or cuts that are not there,
    UnsupportedError for a bidirectional mixer (it has no state), MemoryBudgetError if the blocks do not fit.
    """
    bad = [t for t in tolerances if not 0 <= t < 1]
    if bad or not tolerances:
        raise InputError(f"tolerances {list(tolerances)}: give at least one, each relative, 0 <= tolerance < 1")
    d = one_sequence(dynamics_of(mixer), sequence)
    whole = d.time
    if whole < 2:
        raise InputError("state rank needs at least two tokens: it is about what one passes to the next")
    if d.support.causal and tokens is not None:
        d = first_tokens(d, min(whole, max(2, tokens)))
    d = d.to(torch.float64)
    where = cut_positions(d.time, cuts)
    ranks = torch.cat([_ranks(d.select_heads(group), tolerances, where) for group in _groups(d)])
    every = d.time == whole and where == list(range(1, whole))
    return StateRank(
        tolerances=tuple(tolerances),
        ranks=ranks,
        lower_bound=not every,
        cap=max(min(t, d.time - t) for t in where),
        tokens=d.time,
        of_tokens=whole,
        cuts=tuple(where),
        designed=_designed(d),
    )


def _groups(d: CoefficientDynamics) -> Iterable[list[int]]:
    return head_groups(d.heads, 2 * d.time * (d.dim if d.recurrent else d.time))


def _ranks(d: CoefficientDynamics, tolerances: Sequence[float], cuts: list[int]) -> Tensor:
    """(heads, tolerances) int."""
    best = torch.zeros(d.heads, len(tolerances), dtype=torch.long, device=d.device)
    limit = torch.tensor(tolerances, dtype=torch.float64, device=d.device)
    for values in singular_values(d, cuts):
        values = values[0]
        above = (values[:, None] > limit[:, None] * values[:, None, :1]) & (values[:, None] > 0)
        best = torch.maximum(best, above.sum(-1))
    return best


def _designed(d: CoefficientDynamics) -> int | None:
    if not d.recurrent:
        return None
    real_numbers = 2 if isinstance(d.readout, RealPart) and d.dtype.is_complex and not _conjugate_halves(d) else 1
    return d.dim * real_numbers


def _conjugate_halves(d: CoefficientDynamics) -> bool:
    """The second half of the state is exactly the conjugate of the first, and so nothing more to carry.

    That holds for all real values if it holds for the keys and the evolution maps such states to such states.
    """
    if not isinstance(d.evolution, Diagonal | DiagonalPlusRankOne):
        return False
    tensors = [d.key] if d.scaling is None else [d.key, d.scaling[..., None]]
    d.evolution.map(lambda x: (tensors.append(x), x)[1])
    return all(_conjugate(x, d.dim) for x in tensors)


def _conjugate(x: Tensor, dim: int) -> bool:
    if x.shape[-1] != dim:  # one number for all of the state
        return not x.is_complex()
    return dim % 2 == 0 and torch.equal(x[..., : dim // 2], x[..., dim // 2 :].conj())
