"""Measures every row of the registry again: the operator against the reference, the state rank against the claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.families.family import FAMILIES, Family


@dataclass(frozen=True)
class Row:
    """One line of ``mixerlens families``: all of it measured in this run but the words.

    error: max |operator @ v - reference| / max |reference| in float64, the worst over the seeds, forward and by a
    dense matrix. rank: the largest rank of alpha[t:, :t] found at 1e-10, over 41 tokens.
    witness: for a non-member, what was measured.
    """

    name: str
    title: str
    member: bool
    function: str
    error: float | None
    reference: str
    state: str
    readout: str
    evolution: str
    key: str
    normalizer: str
    recurrence: str
    rank: int | None
    source: str
    note: str
    bar: float | None
    holds: bool
    witness: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return asdict(self)


def measure(
    names: Iterable[str] | None = None, seeds: int = 1, progress: Callable[[str, int, int], None] | None = None
) -> list[Row]:
    """Measure families (all, members first, by default). Raises InputError for a name that is not registered."""
    wanted = list(FAMILIES if names is None else names)
    unknown = [n for n in wanted if n not in FAMILIES]
    if unknown:
        near = get_close_matches(unknown[0], list(FAMILIES), n=3) or ["mixerlens families lists them"]
        raise InputError(f"no family is called {unknown[0]!r}: {', '.join(near)}")
    rows = []
    for done, name in enumerate(wanted):
        if progress:
            progress(name, done, len(wanted))
        rows.append(_member(FAMILIES[name], seeds))
    return rows


def _member(family: Family, seeds: int) -> Row:
    errors, ranks = [], []
    reference = family.recurrence_by_hand
    for seed in range(seeds):
        given = family.arguments(seed)
        value = given.pop("value")
        want = reference(value=value, **given)
        operator = family.function(**given).operator()
        errors.append(_error(operator @ value, want))
        dense = operator.to_dense()
        heads = value.repeat_interleave(dense.shape[1] // value.shape[2], dim=2).transpose(1, 2)
        errors.append(_error((dense @ heads.to(dense.dtype)).transpose(1, 2), want))
        if operator.dynamics.causal:  # a bidirectional mixer has no state between tokens
            ranks.append(int(operator.state_rank(tol=1e-10, cuts="all").max()))
    error = max(errors)
    return Row(
        name=family.name,
        title=family.title,
        member=True,
        function=family.function.__name__,
        error=error,
        reference=f"{reference.__module__}.{reference.__name__}",
        state=family.state,
        readout=family.readout,
        evolution=family.evolution,
        key=family.key,
        normalizer=family.normalizer,
        recurrence=family.recurrence,
        rank=max(ranks, default=None),
        source=family.source,
        note=family.note,
        bar=family.bar,
        holds=error <= family.bar,
    )


def _error(got: Tensor, want: Tensor) -> float:
    if got.shape != want.shape or not bool(torch.isfinite(torch.view_as_real(got) if got.is_complex() else got).all()):
        return math.inf
    return float((got - want).abs().max() / want.abs().max())
