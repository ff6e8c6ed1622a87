"""A mixer as data: which parts it has, of which sizes. What follows from it is derived elsewhere in this package."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch

from mixerlens.design.functions import FUNCTIONS
from mixerlens.design.inits import constant, normal
from mixerlens.design.parts import SLOTS, Kind, Sizes, options_of
from mixerlens.design.parts.systems import SYSTEMS, System
from mixerlens.design.signals import Signal, collect, read_changes
from mixerlens.design.transforms import FEATURES, NORMS
from mixerlens.design.values import Option, choice, flag, integer, mapping, number, shown, text, unknown
from mixerlens.errors import InputError

SCALES = ("inverse_sqrt_dim",)


@dataclass(frozen=True)
class Part:
    """One part: a kind of its slot, with the options of that kind."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)


def part(kind: str, **options: Any) -> Part:
    """``part("delta", decay="rate")``."""
    return Part(kind, options)


@dataclass(frozen=True)
class Vector:
    """Where query, key or value come from, and what is done to them, in this order: features, norm, scale, gate.

    source: projection, parameter, constant, position, or (key only) evolution: what the evolution itself lets in.
    features: the transform, see ``transforms.FEATURES``. norm: none, l2, rms, sum. scale: a number or
    "inverse_sqrt_dim". heads: head groups, all heads where None. gate: none, or a signal NAME_gate that multiplies the
    vector by one number ("number") or one a dimension ("vector"). imaginary: a second signal NAME_imag holds imaginary
    parts. function, arguments: of a constant or position, and where a parameter starts (NAME_imag at FUNCTION_imag);
    deviation: of a parameter's normal initial values, where no function says them.
    """

    source: str = "projection"
    features: str = "identity"
    norm: str = "none"
    scale: float | str = 1.0
    heads: int | None = None
    gate: str = "none"
    imaginary: bool = False
    function: str | None = None
    arguments: dict[str, float] = field(default_factory=dict)
    deviation: float = 1.0

    def signals(self, name: str, dim: int, heads: int, micro_steps: int = 1) -> list[Signal]:
        """The signals this vector needs."""
        if self.source == "evolution":
            return []
        scale = dim**-0.5 if self.scale == "inverse_sqrt_dim" else float(self.scale)
        groups = heads if self.heads is None else self.heads
        shape = (dim,) if micro_steps == 1 else (micro_steps, dim)
        common: dict[str, Any] = {"shape": shape, "heads": groups, "source": self.source, "dynamics": name != "value"}
        function = self.function or (None if self.source in ("projection", "parameter") else "one")
        common |= {"arguments": self.arguments}
        if self.source == "parameter" and function is None:
            common |= {"init": normal(self.deviation)}
        own = {"transform": self.features, "norm": self.norm, "scale": scale, "function": function}
        found = [Signal(name, **common, **own, says=f"the {name}")]
        if self.imaginary:
            function = None if function is None else f"{function}_imag"
            told = f"the imaginary part of the {name}"
            found.append(Signal(f"{name}_imag", **common, scale=scale, function=function, says=told))
        if self.gate != "none":
            gate = () if self.gate == "number" else (dim,)
            dynamics = name != "value"
            found.append(Signal(f"{name}_gate", gate, heads, dynamics=dynamics, says=f"multiplies the {name}"))
        return found


_VECTOR = {
    "source": choice("projection", "parameter", "constant", "position", "evolution"),
    "features": choice(*FEATURES),
    "norm": choice(*NORMS),
    "scale": number(words=SCALES),
    "heads": integer(none=True),
    "gate": choice("none", "number", "vector"),
    "imaginary": flag,
    "function": lambda where, x: None if x is None else choice(*FUNCTIONS)(where, x),
    "arguments": lambda where, x: {name: number()(f"{where}.{name}", y) for name, y in mapping(where, x).items()},
    "deviation": number(0),
}


@dataclass(frozen=True)
class MixerSpec:
    """A mixer: u_jj = b_j k_j, u_ij = A_i u_{i-1,j}, alpha_ij = phi(q_i^T u_ij) / eta_i, y_i = sum_j alpha_ij v_j.

    name: any text. heads, dim (of query and key, a head), width (of the value, a head).
    query, key, value: `Vector`s. evolution A, scaling b, readout phi, normalizer eta: `Part`s, as are system (how many
    such systems, and how they are chained), positions (what is done to query and key by the token's number), support
    (the pairs (i, j) summed over), gate and norm (of the output), short_convolution (of query, key and value before all
    else). skip: whether a learned multiple of the value is added to the output. signals: changes of the signals the
    parts declare. A part may be given by its kind's name alone, or as a mapping with ``kind``.

    Raises InputError, in one line that names the field, the value and what is allowed, for anything that does not fit.
    """

    name: str
    heads: int = 4
    dim: int = 16
    width: int = 16
    query: Vector = field(default_factory=Vector)
    key: Vector = field(default_factory=Vector)
    value: Vector = field(default_factory=Vector)
    evolution: Part = field(default_factory=lambda: Part("identity"))
    scaling: Part = field(default_factory=lambda: Part("one"))
    readout: Part = field(default_factory=lambda: Part("identity"))
    normalizer: Part = field(default_factory=lambda: Part("none"))
    system: Part = field(default_factory=lambda: Part("single"))
    positions: Part = field(default_factory=lambda: Part("none"))
    support: Part = field(default_factory=lambda: Part("causal"))
    short_convolution: Part = field(default_factory=lambda: Part("none"))
    gate: Part = field(default_factory=lambda: Part("none"))
    norm: Part = field(default_factory=lambda: Part("none"))
    skip: bool = False
    signals: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = {"name": text, **dict.fromkeys(("heads", "dim", "width"), integer()), "skip": flag}
        for name, check in checks.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        for name in ("query", "key", "value"):
            object.__setattr__(self, name, _vector(name, getattr(self, name)))
        for name in SLOTS:
            object.__setattr__(self, name, read_part(name, name, getattr(self, name)))
        object.__setattr__(self, "signals", read_changes("signals", self.signals))
        _ = self.all_signals
        entering = [name for name, kind in SLOTS["evolution"].items() if kind.entry is not None]
        if self.key.source == "evolution" and self.evolution.kind not in entering:
            kinds = ", ".join(entering)
            raise InputError(f"key.source: evolution {self.evolution.kind} does not say what enters, only {kinds} do")
        for slot in SLOTS:
            self.kind(slot).check(self)
        self._try()

    def _try(self) -> None:
        """Assemble two tokens: what parts cannot do together shows here, and not in a training that has begun."""
        from mixerlens.design.assembly import assemble

        generator = torch.Generator().manual_seed(0)
        trained = {n: s for n, s in self.all_signals.items() if s.trained and s.dynamics}
        assemble(self, {n: s.example(generator, 1, 2) for n, s in trained.items()}, length=2)

    def kind(self, slot: str) -> Kind:
        """What stands behind the part of this slot."""
        return SLOTS[slot][getattr(self, slot).kind]

    @property
    def micro_steps(self) -> int:
        """Writes a token: values have heads * micro_steps heads, and the output sums each head's."""
        return int(self.evolution.options.get("micro_steps", 1))

    @property
    def state_dim(self) -> int:
        """Dimensions of query and key after their features."""
        trained = [v for v in (self.query, self.key) if v.source in ("projection", "parameter")]
        sizes = {FEATURES[v.features].size(self.dim) for v in trained} or {self.dim}
        if len(sizes) > 1:
            raise InputError(
                f"query.features {self.query.features!r} and key.features {self.key.features!r} make "
                f"{' and '.join(map(str, sorted(sizes)))} dimensions: both must make as many"
            )
        return sizes.pop()

    @property
    def evolving_dim(self) -> int:
        """Dimensions that the evolution acts on: those of query and key, or of the slots that they read."""
        system = SYSTEMS[self.system.kind]
        assert isinstance(system, System)
        return system.state(self.system.options, self.state_dim)

    @cached_property
    def all_signals(self) -> dict[str, Signal]:
        """Every signal by name."""
        vectors = (
            *self.query.signals("query", self.dim, self.heads),
            *self.key.signals("key", self.dim, self.heads, self.micro_steps),
        )
        sizes = Sizes(self.heads, self.state_dim, vectors)
        declared = [
            *vectors,
            *self.value.signals("value", self.width, self.heads * self.micro_steps),
        ]
        for slot in ("system", "positions", "evolution", "scaling", "normalizer", "readout"):
            kind, inner = self.kind(slot), sizes
            if slot in ("evolution", "scaling"):
                inner = replace(sizes, dim=self.evolving_dim)
            declared += kind.signals(inner, getattr(self, slot).options)
        if self.gate.kind != "none":
            shape = (self.width,) if self.gate.options["per"] == "channel" else ()
            declared.append(
                Signal("output_gate", shape, self.heads, transform=self.gate.kind, dynamics=False, says="multiplies y")
            )
        if self.skip:
            told = {"source": "parameter", "init": constant(1), "dynamics": False}
            declared.append(Signal("skip", (), self.heads, **told, says="the multiple of the value that is added to y"))
        return collect(declared, self.signals, self.heads * self.micro_steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain texts, numbers, lists and mappings; what is as by default is left out, but for name and sizes."""
        told: dict[str, Any] = {}
        for f in fields(self):
            x = getattr(self, f.name)
            if isinstance(x, Part):
                default = _DEFAULTS[f.name]
                if x != default:
                    told[f.name] = _short(f.name, x)
            elif isinstance(x, Vector):
                changed = {
                    v.name: getattr(x, v.name) for v in fields(x) if getattr(x, v.name) != getattr(Vector(), v.name)
                }
                if changed:
                    told[f.name] = changed
            elif f.name in ("name", "heads", "dim", "width") or x:
                told[f.name] = copy.deepcopy(x)
        return told

    @staticmethod
    def from_dict(given: Mapping[str, Any]) -> MixerSpec:
        """The specification of a mapping as ``to_dict`` makes it. Raises InputError for anything else."""
        if given is None:
            raise InputError("specification: there is nothing in it: give at least name")
        given = mapping("specification", given, [f.name for f in fields(MixerSpec)])
        if "name" not in given:
            raise InputError("specification: name is missing")
        return MixerSpec(**given)


def _vector(where: str, given: Any) -> Vector:
    if isinstance(given, str):
        given = {"source": given}
    if not isinstance(given, (Vector, Mapping)):
        raise InputError(f"{where}: {shown(given)} must be the name of a source or a mapping: {', '.join(_VECTOR)}")
    named = {f.name: getattr(given, f.name) for f in fields(Vector)} if isinstance(given, Vector) else given
    named = mapping(where, named, _VECTOR)
    vector = Vector(**{name: _VECTOR[name](f"{where}.{name}", x) for name, x in named.items()})
    if vector.source in ("constant", "position", "evolution"):
        for name in ("features", "norm", "scale", "imaginary"):
            if getattr(vector, name) != getattr(Vector(), name):
                raise InputError(f"{where}.{name}: source {vector.source} is taken as it is: drop {name}")
    unused = {"deviation": vector.source != "parameter", "function": vector.source in ("projection", "evolution")}
    unused["arguments"] = vector.function is None
    for name, idle in unused.items():
        if idle and getattr(vector, name) != getattr(Vector(), name):
            raise InputError(f"{where}.{name}: source {vector.source} has no use for it: drop {name}")
    if vector.source == "evolution" and where != "key":
        raise InputError(f"{where}.source: only the key can come from the evolution")
    return vector


def read_part(where: str, slot: str, given: Any) -> Part:
    """A part of a slot from a `Part`, a kind's name, or a mapping with ``kind``; options checked, defaults filled."""
    if isinstance(given, Part):
        kind, options = given.kind, dict(given.options)
    elif isinstance(given, str):
        kind, options = given, {}
    else:
        if not isinstance(given, Mapping):
            kinds = ", ".join(sorted(SLOTS[slot]))
            raise InputError(f"{where}: {shown(given)} must be the name of a kind or a mapping with kind, of {kinds}")
        options = mapping(where, given)
        kind = options.pop("kind", None)
    known = SLOTS[slot]
    if kind is None:
        raise InputError(f"{where}.kind is missing: give one of {', '.join(sorted(known))}")
    if not isinstance(kind, str) or kind not in known:
        raise unknown(f"{where}.kind", kind, known)
    return Part(kind, options_of(where, known[kind], options, read_part))


def _short(slot: str, given: Part) -> dict[str, Any]:
    """Without the options that are as by default."""
    known: dict[str, Option] = SLOTS[slot][given.kind].options
    told: dict[str, Any] = {"kind": given.kind}
    for name, x in given.options.items():
        if x != known[name].default:
            told[name] = _short("evolution", x) if isinstance(x, Part) else list(x) if isinstance(x, tuple) else x
    return told


_DEFAULTS = {
    f.name: read_part(f.name, f.name, f.default_factory())  # type: ignore[misc] - every slot has a factory
    for f in fields(MixerSpec)
    if f.name in SLOTS
}
