"""From a specification and its signals to the dynamics: a pure function of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.design.parts import SLOTS, Pieces
from mixerlens.design.parts.evolution.decay import Decay
from mixerlens.design.signals import Signal
from mixerlens.design.spec import MixerSpec, Part
from mixerlens.design.values import unknown
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Evolution, Identity
from mixerlens.families.exponentials import held
from mixerlens.shapes import spread, wide
from mixerlens.support import Support


def signals(spec: MixerSpec) -> dict[str, Signal]:
    """Everything the mixer must be given, by name."""
    return spec.all_signals


def assemble(
    spec: MixerSpec,
    signals: Mapping[str, Inexact[Tensor, "*axes"]],
    *,
    length: int | None = None,
    start: int = 0,
    before: Mapping[str, Inexact[Tensor, "*axes"]] | None = None,
    log_unit: Float[Tensor, "#batch 1 #heads"] | None = None,
) -> Mixer:
    """The dynamics of a specification.

    signals: for every `Signal` that is trained its values (after ``Signal.__call__``), (batch, time, heads, *shape);
        leading axes may be left out. Constants and positions are filled in where they are not given. Signals that act
        outside (value, output_gate, skip) may be there and are not looked at.
    length: number of tokens, needed only where no signal has a time axis. start: the number of the first token.
    before: the signals of the token before the first, where a sequence is continued from a state; a kind that reads
        before it writes needs its decay.
    log_unit: scaling "exp" divides e^log_unit out of b and, where eta is a floor, out of the floor too, which leaves
        alpha as it is. By default the largest log input of the call; to go on from a state give the state's.

    Raises InputError for signals that are missing, unknown, of the wrong shape or outside what the equation allows.
    """
    return Assembly(spec, signals, length=length, start=start, before=before, log_unit=log_unit).mixer()


class Assembly:
    """The signals of one call, checked, in their full shape; what kinds build their parts from."""

    def __init__(
        self,
        spec: MixerSpec,
        given: Mapping[str, Tensor],
        *,
        length: int | None = None,
        start: int = 0,
        before: Mapping[str, Tensor] | None = None,
        log_unit: Tensor | None = None,
    ) -> None:
        self.spec, self.length, self.start = spec, length, start
        self.log_unit = log_unit  # of b: scaling "exp" sets it where it is not given
        self.span = 0.0  # of the exponents in b and the floor: the query is widened where they need it
        declared = spec.all_signals
        for name in given:
            if name not in declared:
                raise unknown("signals", name, declared)
        missing = [n for n, s in declared.items() if s.dynamics and s.trained and n not in given]
        if missing:
            raise InputError(
                f"signals: {', '.join(missing)} missing: give a tensor for each trained signal of the spec"
            )
        self._given = {name: _full(declared[name], given[name]) for name in declared if name in given}
        self._filled: dict[str, Tensor] = {}  # constants and positions, which have no say in dtype and device
        self._before = before
        self.dim = spec.evolving_dim

    @cached_property
    def previous(self) -> Assembly | None:
        """The assembly of the token before the first."""
        if self._before is None:
            return None
        return Assembly(self.spec, self._before, length=1, start=max(0, self.start - 1))

    @cached_property
    def time(self) -> int:
        """Tokens of this call."""
        found = {x.shape[1] for name, x in self._given.items() if self.spec.all_signals[name].dynamics} - {1}
        if self.length is not None:
            found.add(self.length)
        if len(found) > 1:
            raise InputError(f"signals: times {', '.join(map(str, sorted(found)))} do not fit together: one, or 1")
        return found.pop() if found else 1

    @cached_property
    def device(self) -> torch.device:
        return next((x.device for x in self._given.values()), torch.device("cpu"))

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of query and key."""
        kinds = [self._given[n].dtype for n in ("query", "key") if n in self._given]
        kinds = kinds or [x.dtype for n, x in self._given.items() if self.spec.all_signals[n].dynamics]
        dtype = torch.float32 if not kinds else kinds[0]
        for kind in kinds:
            dtype = torch.promote_types(dtype, kind)
        return dtype

    def __getitem__(self, name: str) -> Tensor:
        """A signal's values, (batch | 1, time | 1, heads | groups | 1, *shape)."""
        if name in self._given:
            return self._given[name]
        if name not in self._filled:
            signal = self.spec.all_signals[name]
            self._filled[name] = signal.at(self.start, self.start + self.time, self.device)
        return self._filled[name]

    def vector(self, name: str) -> Tensor:
        """A vector with its imaginary part and gate, turned by its position where it is query or key."""
        given = getattr(self.spec, name.removeprefix("second_"))
        x = self[name]
        if given.source in ("constant", "position"):
            x = x.to(self.dtype)
        if given.imaginary:
            x = torch.complex(*torch.broadcast_tensors(x, self[f"{name}_imag"].to(x.dtype)))
        if given.gate != "none":
            gate = self[f"{name}_gate"]
            gate = gate.unsqueeze(-1) if given.gate == "number" else gate
            heads = max(gate.shape[2], x.shape[2])
            x = spread(x, heads, 2) * spread(gate, heads, 2)
        positions = self.spec.positions
        return x if name == "value" else SLOTS["positions"][positions.kind].build(self, positions.options, x)

    @cached_property
    def query(self) -> Tensor:
        return self.vector("query")

    @cached_property
    def key(self) -> Tensor:
        """As projected, or what the evolution lets in."""
        if self.spec.key.source != "evolution":
            return self.vector("key")
        kind, options = self.spec.kind("evolution"), self.spec.evolution.options
        assert kind.entry is not None  # the specification has checked it
        entry = kind.entry(self, options)
        return entry.to(self.dtype.to_complex() if entry.is_complex() else self.dtype)

    @property
    def support(self) -> Support:
        part = self.spec.support
        return SLOTS["support"][part.kind].build(self, part.options)

    def evolution(self, part: Part, pieces: Pieces) -> Pieces:
        """What this evolution makes of query and key."""
        return SLOTS["evolution"][part.kind].build(self, part.options, pieces)

    def scaling(self) -> Tensor | float | None:
        """b, (batch, time, heads), with a dimension axis behind, or one number; None for 1."""
        part = self.spec.scaling
        return SLOTS["scaling"][part.kind].build(self, part.options)

    def decay(self) -> Decay:
        """The decay of the evolution. Raises InputError for a kind that has none of its own."""
        part = self.spec.evolution
        found = SLOTS["evolution"][part.kind].decay
        if found is None or part.options.get("decay") == "none":
            having = ", ".join(name for name, kind in SLOTS["evolution"].items() if kind.decay is not None)
            single = self.spec.system.kind == "single"
            needing = f"scaling {self.spec.scaling.kind}" if single else f"system {self.spec.system.kind}"
            raise InputError(
                f"evolution.kind: {part.kind} has no decay here, which {needing} needs; {having} can have one"
            )
        return found(self, part.options)

    def inner(self, part: Part, pieces: Pieces) -> Evolution:
        """An evolution inside another."""
        return self.evolution(part, pieces).evolution

    def dynamics(self, query: Tensor, key: Tensor) -> CoefficientDynamics:
        """One system with this query and key, and all other parts of the specification."""
        spec = self.spec
        written, scaling = _fold(key, self.scaling())
        pieces = self.evolution(spec.evolution, Pieces(query, key, written, scaling, Identity()))
        normalizer = SLOTS["normalizer"][spec.normalizer.kind].build(self, spec.normalizer.options)
        return CoefficientDynamics(
            held(self.span, pieces.query, "log inputs"),
            pieces.written,
            pieces.evolution,
            scaling=pieces.scaling,
            readout=SLOTS["readout"][spec.readout.kind].build(self, spec.readout.options),
            normalizer=normalizer,
            support=self.support,
            length=self.time,
        )

    def mixer(self) -> Mixer:
        """The whole."""
        part = self.spec.system
        return SLOTS["system"][part.kind].build(self, part.options)


def _fold(key: Tensor, b: Tensor | float | None) -> tuple[Tensor, Tensor | None]:
    """The written key and what is left of b: one number for all tokens and a factor a dimension go into the key."""
    if b is None:
        return key, None
    if not isinstance(b, Tensor):
        return key * b, None
    if b.dim() == 4:
        heads = max(key.shape[2], b.shape[2])
        product = wide(spread(key, heads, 2)) * spread(b, heads, 2)
        dtype = torch.promote_types(key.dtype, torch.complex64 if product.is_complex() else key.dtype)
        return product.to(dtype), None
    return key, b


def _full(signal: Signal, x: object) -> Tensor:
    """x as (batch, time, heads, *shape). Raises InputError for what does not fit the signal."""
    where = f"signal {signal.name}"
    if not isinstance(x, Tensor):
        raise InputError(f"{where}: {x!r:.60} must be a tensor")
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    shape = signal.value_shape
    lead = x.dim() - len(shape)
    if not 0 <= lead <= 3 or tuple(x.shape[lead:]) != shape or 0 in x.shape:
        wanted = ", ".join(["batch", "time", "heads", *map(str, shape)])
        raise InputError(f"{where}: shape {tuple(x.shape)} must be ({wanted}), or leave out leading axes")
    x = x[(None,) * (3 - lead)]
    if x.shape[2] not in (1, signal.heads):
        raise InputError(f"{where}: {x.shape[2]} heads, the specification has {signal.heads}")
    if signal.low > -float("inf") and bool((x.detach() < signal.low).any()):
        raise InputError(f"{where}: {float(x.min()):.3g} is below {signal.low:g}, the least the equation allows")
    if signal.high < float("inf") and bool((x.detach() > signal.high).any()):
        raise InputError(f"{where}: {float(x.max()):.3g} is above {signal.high:g}, the most the equation allows")
    return x
