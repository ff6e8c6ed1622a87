"""The forms in which a decay a_t comes, a number a head or one a dimension: what several kinds of A_t share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixerlens.design.inits import constant, count, log_uniform, uniform
from mixerlens.design.values import Option, choice
from mixerlens.shapes import wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly
    from mixerlens.design.signals import Signal

STEPS = log_uniform(1e-3, 1e-1)  # of state space models, arXiv 2312.00752


@dataclass(frozen=True)
class Decay:
    """a_t as its logarithm or as itself, in float64, (batch, time, heads, *shape); and 1 - a_t without cancellation.

    rate, step: set where log = step * rate is wanted in factors.
    """

    log: Tensor | None = None
    value: Tensor | None = None
    open: Tensor | None = None
    rate: Tensor | None = None
    step: Tensor | None = None

    @property
    def named(self) -> dict[str, Tensor]:
        """As the evolutions of the library take it."""
        if self.log is not None:
            return {"log_decay": self.log}
        return {} if self.value is None else {"decay": self.value}

    @property
    def factor(self) -> Tensor:
        """a_t itself, of a form that is not none."""
        if self.log is not None:
            return torch.exp(self.log)
        assert self.value is not None
        return self.value

    @property
    def log_size(self) -> Tensor:
        """log |a_t|."""
        if self.log is not None:
            return self.log.real if self.log.is_complex() else self.log
        return torch.log(self.factor.abs())

    def column(self, on: bool) -> Decay:
        """With one more axis of size 1 at the end where ``on``: a number a head beside vectors."""
        if not on:
            return self
        grown = {name: x.unsqueeze(-1) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return Decay(**grown)


def _log_decay(shape: tuple[int, ...], heads: int) -> list[Signal]:
    from mixerlens.design.signals import Signal

    start = uniform(-0.1, -0.001)
    return [Signal("log_decay", shape, heads, transform="log_sigmoid", high=0, init=start, says="log a_t")]


def _decay(shape: tuple[int, ...], heads: int) -> list[Signal]:
    from mixerlens.design.signals import Signal

    return [Signal("decay", shape, heads, transform="sigmoid", init=uniform(0.9, 0.999), says="a_t")]


def _rate(shape: tuple[int, ...], heads: int) -> list[Signal]:
    from mixerlens.design.signals import Signal

    start = count(-1.0, -1.0) if shape else uniform(-16, -1)
    rate = Signal("rate", shape, heads, "parameter", "neg_exp", high=0, init=start, says="log a_t = step_t rate")
    return [rate, Signal("step", (), heads, transform="softplus", low=0, init=STEPS, says="the length of token t")]


def _update(shape: tuple[int, ...], heads: int) -> list[Signal]:
    from mixerlens.design.signals import Signal

    return [Signal("update", shape, heads, transform="sigmoid", init=constant(0.1), says="a_t = 1 - update_t")]


def _share(shape: tuple[int, ...], heads: int) -> list[Signal]:
    from mixerlens.design.signals import Signal

    gates = (("forget_gate", 0.9, "a_t = forget / (forget + input)"), ("input_gate", 0.1, "what of token t enters"))
    return [Signal(n, shape, heads, transform="sigmoid", low=0, init=constant(x), says=s) for n, x, s in gates]


FORMS: dict[str, Callable[[tuple[int, ...], int], list[Signal]]] = {
    "none": lambda shape, heads: [],
    "log_decay": _log_decay,
    "decay": _decay,
    "rate": _rate,
    "update": _update,
    "share": _share,
}


def option(default: str, *, none: bool = False) -> Option:
    """The option ``decay`` of a kind: none, log_decay, decay, rate (times step), update, share."""
    return Option(choice(*(name for name in FORMS if none or name != "none")), default)


def decay_of(a: Assembly, form: str, dim: int | None = None) -> Decay:
    """The decay of this form from the signals; dim: it has one number a dimension. Products are formed in float64."""
    if form == "none":
        return Decay()
    if form == "log_decay":
        log = wide(a["log_decay"])
        return Decay(log=log, open=-torch.expm1(log))
    if form == "decay":
        value = wide(a["decay"])
        return Decay(value=value, open=1 - value)
    if form == "rate":
        rate, step = wide(a["rate"]), wide(a["step"])
        if dim is not None:
            return Decay(log=rate * step.unsqueeze(-1), rate=rate, step=step)
        return Decay(log=rate * step, rate=rate, step=step)
    if form == "update":
        opened = wide(a["update"])
        return Decay(value=1 - opened, open=opened)
    forget, entry = wide(a["forget_gate"]), wide(a["input_gate"])
    return Decay(value=forget / (forget + entry), open=entry / (forget + entry))
