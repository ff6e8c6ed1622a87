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
from mixerlens.families.outsiders import OUTSIDERS, Outsider


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
    """Measure families (all, members first, by default).

    names: of rows, or of functions for all rows that are built by them, in any case; each row comes once.
    Raises InputError for a name that is not registered.
    """
    outsiders = {x.name: x for x in OUTSIDERS}
    known = [*FAMILIES, *outsiders]
    wanted = known if names is None else list(dict.fromkeys(row for name in names for row in _rows_of(name, known)))
    rows = []
    for done, name in enumerate(wanted):
        if progress:
            progress(name, done, len(wanted))
        rows.append(_member(FAMILIES[name], seeds) if name in FAMILIES else _outsider(outsiders[name], seeds))
    return rows


def _rows_of(name: str, known: list[str]) -> list[str]:
    """The row of this name, else all rows of the function of this name."""
    wanted = name.lower()
    found = [row for row in known if row.lower() == wanted]
    found = found or [row for row, family in FAMILIES.items() if family.function.__name__.lower() == wanted]
    if found:
        return found
    functions = [family.function.__name__ for family in FAMILIES.values()]
    names = list(dict.fromkeys([*known, *functions]))
    near = [x for x in names if wanted and wanted in x.lower()] or get_close_matches(wanted, names, n=3)
    raise InputError(f"no family is called {name!r}: {', '.join(near or ['mixerlens families lists them'])}")


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


def _outsider(mixer: Outsider, seeds: int) -> Row:
    """A mixer that is no member; its row holds where the witness shows it on every seed."""
    try:
        first, *_ = [mixer.witness(seed) for seed in range(seeds)]
        witness, holds = str(first), True
    except RuntimeError as missed:
        witness, holds = str(missed), False
    return Row(
        name=mixer.name,
        title=mixer.title,
        member=False,
        function=mixer.name,
        error=None,
        reference=f"{mixer.reference.__module__}.{mixer.reference.__name__}",
        state="",
        readout="",
        evolution="",
        key="",
        normalizer="",
        recurrence="",
        rank=None,
        source=mixer.source,
        note=mixer.note,
        bar=None,
        holds=holds,
        witness=witness,
    )


def _error(got: Tensor, want: Tensor) -> float:
    if got.shape != want.shape or not bool(torch.isfinite(torch.view_as_real(got) if got.is_complex() else got).all()):
        return math.inf
    return float((got - want).abs().max() / want.abs().max())
