"""The principles of every mixer of an opened model, of a specification, or of a family of the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mixerlens.composition import CoefficientSum
from mixerlens.errors import InputError
from mixerlens.measures.record import unit_of
from mixerlens.principles.parts import spaced
from mixerlens.principles.position import PositionPrinciple
from mixerlens.principles.readout import LONGEST, ReadoutPrinciple
from mixerlens.principles.report import MEASURES, PrincipleReport, measure

if TYPE_CHECKING:
    from mixerlens.capture import Lens, Trace
    from mixerlens.design import MixerSpec

LENGTH = 128  # tokens drawn for a specification or a family
MOST = 1 << 16  # and no more: retention reads every pair of them
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class MixerPrinciples:
    """One mixer: where it stands in the model, how many heads it has (``of``), and what was measured of which.

    specification: its name, for a mixer of one's own design.
    """

    path: str
    layer: int
    kind: str
    family: str
    of: int
    report: PrincipleReport
    specification: str | None = None

    @property
    def described(self) -> dict[str, Any]:
        """What both forms of the JSON begin with."""
        told = {"layer": self.layer, "kind": self.kind, "family": self.family, "of": self.of}
        return told if self.specification is None else told | {"specification": self.specification}

    def to_json(self) -> dict[str, Any]:
        return self.described | self.report.to_json()


@dataclass(frozen=True, eq=False)
class ModelPrinciples:
    """The mixers of one model in their order; ``found["model.layers.0.mixer"]`` is one of them.

    source: what was measured. tokens, unit: on how many positions, and what these are. note: what was drawn, what
    looked at fewer tokens, and which heads were left out because the caller said so; empty where nothing was. seed: of
    every random number.
    """

    source: str
    tokens: int
    unit: str
    note: str
    mixers: tuple[MixerPrinciples, ...]
    seed: int = 0

    def __getitem__(self, path: str) -> MixerPrinciples:
        for mixer in self.mixers:
            if mixer.path == path:
                return mixer
        raise InputError(f"no mixer {path!r} was measured: {', '.join(mixer.path for mixer in self.mixers)}")

    def __iter__(self) -> Iterator[MixerPrinciples]:
        return iter(self.mixers)

    @property
    def looked_at(self) -> dict[str, int]:
        """On how many tokens a measure looked that did not look at all of them, by its name."""
        return _looked_at(self.mixers, self.tokens)

    def to_json(self, *, full: bool = True) -> dict[str, Any]:
        """A JSON-able dictionary, a mixer a key under "mixers".

        full: every number and text of every mixer. Else what the tables show: of each mixer the values, the meanings
        and whether the conditions hold, and what is true of each principle once, under "principles".
        """
        told: dict[str, Any] = {"source": self.source, "tokens": self.tokens, "unit": self.unit, "note": self.note}
        told |= {"seed": self.seed, "looked_at": self.looked_at}
        if full:
            return told | {"mixers": {mixer.path: mixer.to_json() for mixer in self.mixers}}
        from mixerlens.principles.words import brief, truth

        first = {name: record for mixer in reversed(self.mixers) for name, record in mixer.report.records.items()}
        names = [name for name in MEASURES if name in first]
        return told | {
            "principles": {name: truth(first[name]) for name in names},
            "mixers": {mixer.path: brief(mixer) for mixer in self.mixers},
        }


def of_model(
    model: Trace | Lens,
    inputs: Any = None,
    *,
    layers: Sequence[int] | None = None,
    heads: int | None = None,
    which: Iterable[str] | None = None,
    sequence: int = 0,
    seed: int = 0,
    note: str = "",
    progress: Progress | None = None,
    **options: dict[str, Any],
) -> ModelPrinciples:
    """All principles of every mixer of a model in one forward pass.

    model: a trace, or a lens with the ``inputs`` to trace it on. layers: only these. heads: at most so many a mixer,
    evenly spaced; all where left out. which, sequence, seed, options: as in ``measure``. note: what the inputs are, in
    words. progress: told what is measured, how many mixers are done, and of how many.

    A measure that has no exact treatment for a mixer, or does not fit the memory budget, is refused with its reason
    and leaves the others. Raises InputError for a layer, sequence or name that is not there, a lens without inputs, and
    counts of heads below 1.
    """
    trace: Any = model
    if hasattr(model, "mixers"):
        if inputs is not None:
            raise InputError("a trace has its inputs already: give inputs with a lens only")
    else:
        if inputs is None:
            raise InputError("principles of a lens need inputs to run it on: give text, ids or an array")
        trace = trace.trace(inputs, layers=None if layers is None else list(layers))
    there = sorted({call.layer for call in trace.mixers.values()})
    missing = [layer for layer in layers or () if layer not in there]
    if missing:
        raise InputError(f"there is no layer {missing[0]} with a mixer: {', '.join(map(str, there))}")
    batch = trace.inputs.shape[0]
    if not 0 <= sequence < batch:
        raise InputError(f"sequence {sequence} does not exist: the trace has sequences 0 .. {batch - 1}")
    calls = [
        (path, call.layer, call.kind, call.family, call.dynamics, call.title if call.family == "designed" else None)
        for path, call in trace.mixers.items()
        if layers is None or call.layer in layers
    ]
    return _of(
        calls, source=str(trace.lens.info().get("source") or ""), tokens=trace.inputs.shape[1], unit=unit_of(trace),
        note=note, heads=heads, which=which, sequence=sequence, seed=seed, progress=progress, options=options,
    )  # fmt: skip


def of_spec(
    spec: MixerSpec, *, length: int = LENGTH, features: int | None = None, seed: int = 0, **options: Any
) -> ModelPrinciples:
    """The principles of an untrained mixer: initial weights and standard normal tokens (1, length, features) by seed.

    features: of a token, heads times value width where left out. options: as in ``of_model``.

    Raises InputError for counts below 1, more than 65,536 tokens, and what ``measure`` refuses.
    """
    from mixerlens.design.mixer import Mixer

    features = spec.heads * spec.width if features is None else features
    length, cut = _drawn(length, options)
    mixer = Mixer(spec, features, seed=seed).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        dynamics, _ = mixer.dynamics(torch.randn(1, length, features, dtype=torch.float64, generator=draw))
    note = f"initial weights and standard normal tokens of {features} features, both drawn with seed {seed}{cut}"
    return _of(
        [(spec.name, 0, "specification", spec.name, dynamics, None)], source=spec.name, tokens=length, unit="token",
        note=note, seed=seed, **_shared(options),
    )  # fmt: skip


def of_family(name: str, *, length: int = LENGTH, seed: int = 0, **options: Any) -> ModelPrinciples:
    """The principles of an architecture of the registry on its example arguments, drawn by seed.

    options: as in ``of_model``. Raises InputError for a name that is not there, and a length below 1 or above 65,536.
    """
    from mixerlens.families import FAMILIES
    from mixerlens.families.draw import Draw

    if name not in FAMILIES:
        raise InputError(f"no family is called {name!r}: mixerlens families lists them")
    length, cut = _drawn(length, options)
    family, draw = FAMILIES[name], Draw(seed)
    draw.time = length  # the rest of the example follows from it
    arguments = family.example(draw)
    arguments.pop("value")
    dynamics = family.function(**arguments)
    note = f"the family's example arguments, {dynamics.heads} heads, drawn with seed {seed}{cut}"
    return _of(
        [(name, 0, "family", name, dynamics, None)], source=family.title, tokens=dynamics.time, unit="token", note=note,
        seed=seed, **_shared(options),
    )  # fmt: skip


def _drawn(length: int, options: dict[str, Any]) -> tuple[int, str]:
    """How many tokens are drawn, and which of those asked for are not: state ranks alone need the first ones only."""
    if length < 1:
        raise InputError(f"length is {length}: at least one token is needed")
    which = options.get("which")
    names = list(MEASURES) if which is None else list(which)
    options["which"] = names
    if set(names) == {"readout"}:
        longest = options.get("readout", {}).get("longest", LONGEST)
        if length > longest:
            return longest, f", not {length} of them: state ranks look at the first {longest} only"
    elif length > MOST:
        whole = next((name for name in names if name != "readout"), "")
        raise InputError(
            f"length is {length}: at most {MOST} tokens are drawn, all of which are read by {whole or 'a measure'}"
        )
    return length, ""


def _looked_at(mixers: Iterable[MixerPrinciples], tokens: int) -> dict[str, int]:
    """State ranks read the first tokens only, changes of order the last: of the mixer that saw most."""
    found: dict[str, int] = {}
    for mixer in mixers:
        for name, record in mixer.report.records.items():
            seen = record.lengths[-1:] if isinstance(record, ReadoutPrinciple) else ()
            seen = (record.row + 1,) if isinstance(record, PositionPrinciple) else seen
            for count in seen:
                found[name] = max(count, found.get(name, 0))
    return {name: count for name, count in found.items() if count < tokens}


def left_out(looked_at: dict[str, int]) -> str:
    """The same in words; empty where every measure read all tokens."""
    words = {"readout": "state ranks on the first {}", "position": "changes of order on the last {}"}
    told = " and ".join(words[name].format(count) for name, count in looked_at.items())
    return f"{told} of them" if told else ""


def _shared(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``of_model`` that every source takes, and those of single measures as ``options``."""
    own = {name: options.pop(name, default) for name, default in
           (("heads", None), ("which", None), ("sequence", 0), ("progress", None))}  # fmt: skip
    return own | {"options": options}


def _of(
    calls: list[tuple[str, int, str, str, Any, str | None]],
    *,
    source: str,
    tokens: int,
    unit: str,
    heads: int | None,
    which: Iterable[str] | None,
    sequence: int,
    seed: int,
    progress: Progress | None,
    options: dict[str, Any],
    note: str = "",
) -> ModelPrinciples:
    if heads is not None and heads < 1:
        raise InputError(f"heads is {heads}: look at one head a mixer at least")
    which = None if which is None else list(which)
    systems = [
        (f"{path}, part {p + 1} of {len(parts)}" if len(parts) > 1 else path, layer, kind, family, d, name)
        for path, layer, kind, family, mixer, name in calls
        for parts in [mixer.parts if isinstance(mixer, CoefficientSum) else (mixer,)]
        for p, d in enumerate(parts)
    ]
    if not systems:
        raise InputError("there is no mixer to measure")
    found = []
    for done, (path, layer, kind, family, d, name) in enumerate(systems):
        chosen = None if heads is None or heads >= d.heads else spaced(0, d.heads, heads)

        def tell(name: str, path: str = path, done: int = done) -> None:
            if progress is not None:
                progress(f"{path}: {name}", done, len(systems))

        report = measure(
            d, which=which, heads=chosen, sequence=sequence if d.batch > 1 else 0, seed=seed, progress=tell, **options
        )
        found.append(MixerPrinciples(path, layer, kind, family, d.heads, report, name))
    left = [f"{len(m.report.heads)} of {m.of} heads of {m.path}" for m in found if len(m.report.heads) < m.of]
    told = [text for text in (note, left_out(_looked_at(found, tokens))) if text]
    told += [f"at your request {', '.join(left)}, evenly spaced"] if left else []
    return ModelPrinciples(source, tokens, unit, "; ".join(told), tuple(found), seed)
