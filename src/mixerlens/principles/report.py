"""All principles of one mixer in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, MemoryBudgetError, UnsupportedError
from mixerlens.measures.parts import dynamics_of
from mixerlens.measures.record import Record
from mixerlens.principles.dsf import dsf
from mixerlens.principles.eigenvalues import eigenvalues
from mixerlens.principles.normalization import normalization
from mixerlens.principles.position import position
from mixerlens.principles.readout import readout
from mixerlens.principles.retention import retention
from mixerlens.principles.scaling import scaling
from mixerlens.principles.selectivity import selectivity
from mixerlens.principles.structure import structure

MEASURES: dict[str, Callable[..., Record]] = {
    "readout": readout,
    "selectivity": selectivity,
    "position": position,
    "structure": structure,
    "scaling": scaling,
    "normalization": normalization,
    "retention": retention,
    "dsf": dsf,
    "eigenvalues": eigenvalues,
}


@dataclass(frozen=True, eq=False)
class PrincipleReport:
    """The records of one mixer by name, in the order of the principles. ``report["readout"]`` is one of them.

    mixer: the parts of the mixer in words. heads: which of its heads the records are about, in their order.
    refused: why a measure that was asked for has no record, by name.
    """

    mixer: str
    heads: tuple[int, ...]
    records: dict[str, Record]
    refused: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        if name in self.refused:
            raise UnsupportedError(self.refused[name])
        if name not in self.records:
            raise InputError(f"no principle {name!r} was measured: {', '.join(self.records)}")
        return self.records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary, a principle a key."""
        records = {name: record.to_json() for name, record in self.records.items()}
        return {"mixer": self.mixer, "heads": list(self.heads), "principles": records, "refused": self.refused}


def measure(
    mixer: Any,
    *,
    which: Iterable[str] | None = None,
    heads: Sequence[int] | None = None,
    sequence: int = 0,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    **options: dict[str, Any],
) -> PrincipleReport:
    """Measure the principles of a mixer: a ``CoefficientDynamics`` or a recorded mixer call.

    which: names of ``MEASURES``, all by default. heads: those to look at, all by default. sequence: of the batch.
    seed: of every random number drawn. progress: told each name before it is measured. options: arguments of one
    measure by its name, ``measure(d, readout={"longest": 256})``.

    A measure that cannot be taken of this mixer is named in ``refused``, with the reason; the rest goes on. Raises
    InputError for what is no mixer, a name, head or sequence that is not there.
    """
    d: CoefficientDynamics = dynamics_of(mixer)
    names = list(MEASURES) if which is None else list(dict.fromkeys(which))
    unknown = [name for name in [*names, *options] if name not in MEASURES]
    if unknown:
        raise InputError(f"no principle is called {unknown[0]!r}: {', '.join(MEASURES)}")
    chosen = tuple(range(d.heads)) if heads is None else tuple(heads)
    bad = [h for h in chosen if not -d.heads <= h < d.heads]
    if bad or not chosen:
        raise InputError(f"head {bad[0] if bad else '(none)'} does not exist: there are heads 0 .. {d.heads - 1}")
    chosen = tuple(h % d.heads for h in chosen)
    d = d.select_heads(chosen)
    records, refused = {}, {}
    for name in names:
        if progress is not None:
            progress(name)
        given: dict[str, Any] = {"sequence": sequence, **options.get(name, {})}
        if name in SEEDED:
            given.setdefault("seed", seed)
        try:
            records[name] = MEASURES[name](d, **given)
        except (UnsupportedError, MemoryBudgetError) as error:
            refused[name] = str(error)
    return PrincipleReport(mixer=repr(d), heads=chosen, records=records, refused=refused)


SEEDED = ("readout", "selectivity", "position", "scaling")
