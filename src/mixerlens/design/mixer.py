"""From a specification to a trainable module, with its three forms: chunked, dense and recurrent.

    raw = W x (+ bias), or a parameter    [short convolution of query, key, value]    signal = transform(raw)
    y = alpha v, the equation             out = W_o (gate * norm(y + skip v))

All forms share the signals and what is done to y; they differ in how alpha v is found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from jaxtyping import Float, Inexact
from torch import Tensor, nn
from torch.nn import functional as F

from mixerlens.composition import Mixer as Dynamics
from mixerlens.design.acting import act, multiplied, multiplies
from mixerlens.design.assembly import Assembly, assemble
from mixerlens.design.chained import CHAINED, chained
from mixerlens.design.recurrent import Held, advance, has_recurrence, in_unit, refusal, rescaled
from mixerlens.design.signals import Signal
from mixerlens.design.spec import MixerSpec, Part
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.families import exponentials
from mixerlens.operator.oracle import oracle
from mixerlens.shapes import spread

__all__ = ["Mixer", "State"]

PROBE = 256  # tokens on which a refusal measures the state rank, or four times the dimensions


@dataclass(frozen=True, eq=False)
class State:
    """What a mixer carries from one token to the next.

    position: tokens so far. held: the state of each part of the mixer; first: that of the system whose outputs make the
    queries of a chained one. near: what the short convolution still reads, (batch, width - 1, channels), raw.
    before: signals of the last token, where A_t reads them. unit: logarithm of what the state is measured in,
    (batch, 1, heads), where b is an exponential. growing: no finite recurrence exists, and every token is held.
    """

    position: int = 0
    held: tuple[Held, ...] | None = None
    first: tuple[Held, ...] | None = None
    near: Tensor | None = None
    before: dict[str, Tensor] | None = None
    unit: Tensor | None = None
    growing: bool = False

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that is carried."""
        states = [x for held in (self.held, self.first) if held is not None for part in held for x in part.tensors]
        return states + [x for x in (self.near, self.unit) if x is not None] + list((self.before or {}).values())


class _Named(nn.Module):
    """Layers or parameters by the names of their signals, which the keys of torch's own containers may not have."""


class Equation(nn.Module):
    """alpha v from the signals, and nothing else: where a mixer is listened to."""

    def __init__(self, spec: MixerSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, signals: dict[str, Tensor], values: Tensor) -> Tensor:
        """signals: those of the dynamics. values (batch, time, heads | kv_heads, m) -> (batch, time, heads, m)."""
        return act(assemble(self.spec, signals, length=values.shape[1]), values)


class Mixer(nn.Module):
    """Maps x (batch, time, features) to the same shape by the mixer of a specification.

    seed: of the initial values; None goes on with torch's own. check: compare all forms at once and raise
    UnsupportedError, with the errors, where they differ by more than 1e-10 in float64.
    """

    def __init__(self, spec: MixerSpec, features: int, seed: int | None = None, *, check: bool = False) -> None:
        super().__init__()
        if isinstance(features, bool) or not isinstance(features, int) or features < 1:
            raise InputError(f"features must be a positive integer, not {features!r}")
        self.spec, self.features = spec, features
        self.equation = Equation(spec)
        self._signals = spec.all_signals
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self._build()
        if check:
            from mixerlens.design.forms import forms

            forms(self).require()

    def _build(self) -> None:
        spec, dtype = self.spec, torch.get_default_dtype()
        self.projections, self.raw = _Named(), _Named()
        for name, signal in self._signals.items():
            if not signal.trained:
                continue
            start = _start(signal)
            if signal.source == "parameter":
                assert start is not None
                self.raw.register_parameter(name, nn.Parameter(start.to(dtype)))
                continue
            layer = nn.Linear(self.features, _rows(signal), bias=start is not None)
            if start is not None:
                with torch.no_grad():
                    layer.bias.copy_(start.flatten())
            self.projections.register_module(name, layer)
        options = spec.short_convolution.options
        self._filtered = [] if spec.short_convolution.kind == "none" else [
            name for name in ("query", "key", "value") if options[name] and self._signals[name].source == "projection"
        ]  # fmt: skip
        self.taps = None
        if self._filtered:
            channels = sum(_rows(self._signals[name]) for name in self._filtered)
            self.taps = nn.Parameter((2 * torch.rand(options["width"], channels) - 1) * options["width"] ** -0.5)
        self.norm_weight = self.norm_bias = None
        if spec.norm.kind != "none":
            self.norm_weight = nn.Parameter(torch.ones(spec.heads, spec.width))
        if spec.norm.kind == "layer":
            self.norm_bias = nn.Parameter(torch.zeros(spec.heads, spec.width))
        numbers = spec.heads * spec.width * (2 if self.complex_output else 1)
        self.out = nn.Linear(numbers, self.features, bias=False)

    @property
    def complex_output(self) -> bool:
        """Whether alpha v is complex: both parts are then read by the output projection."""
        spec = self.spec
        scores = spec.query.imaginary or spec.key.imaginary or _turns(spec.evolution)
        return spec.value.imaginary or (scores and spec.readout.kind != "real_part")

    def extra_repr(self) -> str:
        s = self.spec
        return f"{s.name}: heads {s.heads}, dim {s.dim}, width {s.width}, evolution {s.evolution.kind}"

    # the parts of a call

    def signals(self, x: Float[Tensor, "batch time features"]) -> dict[str, Inexact[Tensor, "batch time heads *shape"]]:
        """The values of every trained signal, for these tokens, as the first of their sequence."""
        return self._values(self._project(x, None)[0])

    def dynamics(
        self, x: Float[Tensor, "batch time features"]
    ) -> tuple[Dynamics, Inexact[Tensor, "batch time heads m"]]:
        """The equation for these tokens, and its values v: ``dynamics.operator() @ values`` is alpha v."""
        signals = self.signals(x)
        return assemble(self.spec, self._entering(signals), length=x.shape[1]), self._value(signals, x)

    def _entering(self, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        """The signals that the dynamics are made of."""
        return {name: value for name, value in signals.items() if self._signals[name].dynamics}

    def _value(self, signals: dict[str, Tensor], x: Tensor) -> Tensor:
        """v for the tokens of x."""
        value = Assembly(self.spec, signals, length=x.shape[1]).vector("value")
        return value.expand(x.shape[0], x.shape[1], -1, -1)

    def _project(self, x: Tensor, near: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """Raw projections (batch, time, rows), query, key and value filtered; and what the filter reads next."""
        if x.dim() != 3 or x.shape[-1] != self.features or 0 in x.shape:
            raise InputError(f"x must be (batch, time >= 1, {self.features} features), not {tuple(x.shape)}")
        raw = {name: layer(x) for name, layer in self.projections.named_children()}
        if self.taps is None:
            return raw, None
        joined = torch.cat([raw[name] for name in self._filtered], -1)
        width = self.taps.shape[0]
        if near is None:
            joined = F.pad(joined, (0, 0, width - 1, 0))
        else:
            joined = torch.cat([near.to(joined.dtype), joined], 1)
        time = x.shape[1]
        filtered = joined[:, width - 1 :] * self.taps[0]
        for lag in range(1, width):
            filtered = torch.addcmul(filtered, joined[:, width - 1 - lag : width - 1 - lag + time], self.taps[lag])
        if self.spec.short_convolution.options["activation"] == "silu":
            filtered = F.silu(filtered)
        sizes = [raw[name].shape[-1] for name in self._filtered]
        parts = dict(zip(self._filtered, filtered.split(sizes, -1), strict=True))
        return raw | parts, joined[:, joined.shape[1] - (width - 1) :]

    def _values(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Signals from raw projections and parameters."""
        found = {}
        for name, signal in self._signals.items():
            if name in raw:
                found[name] = signal(raw[name].unflatten(-1, (signal.heads, *signal.shape)))
            elif signal.source == "parameter":
                found[name] = signal(self.raw.get_parameter(name))[None, None]
        return found

    def _finish(self, y: Tensor, values: Tensor, signals: dict[str, Tensor]) -> Tensor:
        """(batch, time, heads * micro_steps, width) -> (batch, time, features)."""
        return self._out(self._together(y), values, signals)

    def _together(self, x: Tensor) -> Tensor:
        """The sum of each head's micro-steps."""
        steps = self.spec.micro_steps
        return x if steps == 1 else x.unflatten(2, (self.spec.heads, steps)).sum(3)

    def _out(self, y: Tensor, values: Tensor, signals: dict[str, Tensor]) -> Tensor:
        """(batch, time, heads, width) -> (batch, time, features)."""
        spec = self.spec
        if spec.skip:
            y = y + signals["skip"].unsqueeze(-1) * spread(self._together(values), spec.heads, 2)
        if self.norm_weight is not None:
            y = _normed(y, spec.norm.kind, spec.norm.options["epsilon"]) * self.norm_weight
            y = y if self.norm_bias is None else y + self.norm_bias
        if spec.gate.kind != "none":
            gate = signals["output_gate"]
            y = y * (gate if spec.gate.options["per"] == "channel" else gate.unsqueeze(-1))
        y = torch.view_as_real(y).flatten(-2) if y.is_complex() else y
        return self.out(y.flatten(2).to(self.out.weight.dtype))

    # the forms

    def forward(self, x: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch time features"]:
        """By the library's chunked algorithms: beyond a chunk no L x L where there is a finite state."""
        if not torch.is_grad_enabled() or not multiplies(self.spec):
            return self._by(x, self.equation)
        signals = self.signals(x)
        assembly = Assembly(self.spec, signals, length=x.shape[1])
        values = self._value(signals, x)
        return self._out(multiplied(assembly, values), values, signals)

    def dense(self, x: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch time features"]:
        """The equation itself, token by token and in float64, with all of alpha: what the other forms are held to."""
        return self._by(x, lambda signals, values: oracle(assemble(self.spec, signals, length=x.shape[1]), values))

    def _by(self, x: Tensor, form: Callable[[dict[str, Tensor], Tensor], Tensor]) -> Tensor:
        signals = self.signals(x)
        values = self._value(signals, x)
        return self._finish(form(self._entering(signals), values), values, signals)

    @cached_property
    def recurrent(self) -> bool:
        """Whether a finite recurrence exists for every input."""
        with torch.no_grad():
            return self.no_cache is None and has_recurrence(self.dynamics(self._probe(1))[0])

    @cached_property
    def no_cache(self) -> str | None:
        """Why later tokens change what earlier ones gave, so that no cache can go on from these; None where none do."""
        if self.spec.readout.options.get("bias") == "log_length":
            return (
                f"{self.spec.name} cannot be taken token by token: its bias log_length is the logarithm of all tokens "
                "of a call, later ones too; give readout.bias a number"
            )
        with torch.no_grad():
            mixer = self.dynamics(self._probe(1))[0]
        return None if mixer.causal else refusal(self.spec.name, mixer)

    @property
    def longest(self) -> int | None:
        """Tokens that the specification has room for, None where there is no limit."""
        part = self.spec.evolution
        return part.options["length"] if part.kind == "fenwick" else None

    def refusal(self) -> str:
        """One line: why there is no recurrent form, with the theorem and the measured state rank at initial values."""
        with torch.no_grad():
            mixer = self.dynamics(self._probe(1))[0]
            if self.no_cache is not None and has_recurrence(mixer):
                return self.no_cache
            dim = max(d.dim for d, _ in mixer.terms)
            return refusal(self.spec.name, self.dynamics(self._probe(max(PROBE, 4 * dim)))[0])

    def _probe(self, time: int) -> Tensor:
        """Random tokens, always the same."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, time, self.features, dtype=torch.float64, generator=generator)
        return x.to(self.out.weight.device, self.out.weight.dtype)

    def initial_state(self, batch: int, *, growing: bool = False) -> State:
        """The state before the first token.

        growing: where no finite recurrence exists, a cache that holds every token, as attention's does; its steps are
        exact too, and each costs more than the last. Raises UnsupportedError where no finite recurrence exists and none
        such is asked for, or where later tokens change what earlier ones gave.
        """
        why = self.no_cache if growing else None if self.recurrent else self.refusal()
        if why is not None:
            raise UnsupportedError(why)
        near = None if self.taps is None else self.taps.new_zeros(batch, self.taps.shape[0] - 1, self.taps.shape[1])
        return State(near=near, growing=not self.recurrent)

    def step(self, x: Float[Tensor, "batch features"], state: State) -> tuple[Float[Tensor, "batch features"], State]:
        """One token: what ``forward`` gives at its place, and the state after it.

        Raises UnsupportedError, with the theorem and the measured state rank, where no finite recurrence exists and the
        state is none that may grow.
        """
        if x.dim() != 2:
            raise InputError(f"one token at a time, (batch, {self.features} features), not {tuple(x.shape)}")
        raw, near = self._project(x[:, None], state.near)
        signals = self._values(raw)
        before = None if state.before is None else self._entering({**signals, **state.before})
        assembly = Assembly(self.spec, signals, length=1, start=state.position, before=before)
        first = None
        if self.spec.system.kind in CHAINED:
            dynamics, first = chained(assembly, state.first)
        else:
            dynamics = assembly.mixer()
        values = assembly.vector("value").expand(x.shape[0], 1, -1, -1)
        if not (state.growing or has_recurrence(dynamics)):
            raise UnsupportedError(self.refusal())
        dynamics, held, unit = _in_one_unit(dynamics, assembly, state)
        y, held = advance(dynamics, values, held, state.growing)
        kept = self._kept(dynamics, signals)
        after = State(state.position + 1, held, first, near, kept, unit, state.growing)
        return self._finish(y, values, signals)[:, 0], after

    def _kept(self, dynamics: Dynamics, signals: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The projected signals of the evolution, where its next step reads them."""
        if not any(d.evolution.begins for d, _ in dynamics.terms):
            return None
        return {name: signals[name] for name in self._evolving if self._signals[name].source == "projection"}

    @cached_property
    def _evolving(self) -> list[str]:
        """Names of the signals that the evolution is made of."""
        return evolution_signals(self.spec)


def evolution_signals(spec: MixerSpec) -> list[str]:
    """Names of the signals that A_t is made of."""
    from mixerlens.design.parts import Sizes

    declared = spec.kind("evolution").signals(Sizes(spec.heads, spec.evolving_dim), spec.evolution.options)
    return [signal.name for signal in declared]


def _in_one_unit(
    dynamics: Dynamics, assembly: Assembly, state: State
) -> tuple[Dynamics, tuple[Held, ...] | None, Tensor | None]:
    """This token's dynamics and the state so far in the larger of their units; what it is, None where all are 1."""
    unit = assembly.log_unit
    if unit is None or not isinstance(dynamics, CoefficientDynamics):
        return dynamics, state.held, None
    unit = unit.detach()
    old = torch.zeros_like(unit) if state.unit is None else state.unit
    if state.held is None:
        return dynamics, None, unit
    common = torch.maximum(unit, old)
    # once the token at the peak is gone, what came after it must still be there
    open_ = ~torch.isneginf(assembly["log_input"])
    exponentials.held(float(torch.where(open_, common - unit, 0).max()), unit, "log inputs of the tokens so far")
    return in_unit(dynamics, unit - common), rescaled(state.held, old - common), common


def _turns(part: Part) -> bool:
    """Whether an evolution, or one inside it, has complex factors."""
    inner = [x for x in part.options.values() if isinstance(x, Part)]
    return bool(part.options.get("frequency")) or any(map(_turns, inner))


def _normed(y: Tensor, kind: str, epsilon: float) -> Tensor:
    """Each head's output with root mean square 1, or mean 0 and variance 1."""
    if kind == "layer":
        y = y - y.mean(-1, keepdim=True)
    size = (y.real.square() + y.imag.square() if y.is_complex() else y.square()).mean(-1, keepdim=True)
    return y * torch.rsqrt(size + epsilon)


def _start(signal: Signal) -> Tensor | None:
    """What a parameter or bias starts at; only its shape where nothing is to be filled."""
    if torch.get_default_device().type != "meta":
        return signal.initial()
    given = signal.init is not None or signal.source == "parameter"
    return torch.empty(signal.heads, *signal.shape) if given else None


def _rows(signal: Signal) -> int:
    """Numbers a token that are projected for this signal."""
    return signal.heads * prod(signal.shape)
