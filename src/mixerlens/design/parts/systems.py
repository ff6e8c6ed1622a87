"""How many systems a mixer has, and how they are chained.

A chained system's query is what another system has read: y still is linear in the values and alpha a coefficient
matrix, but its rows depend on all earlier keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixerlens.composition import CoefficientSum, Mixer
from mixerlens.design.inits import constant
from mixerlens.design.parts.evolution.decaying import opened
from mixerlens.design.parts.kind import Kind, Options, Sizes, table
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, integer
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Scalar
from mixerlens.families import mesa_net
from mixerlens.shapes import spread

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly
    from mixerlens.design.spec import MixerSpec


def _same(options: Options, dim: int) -> int:
    return dim


@dataclass(frozen=True)
class System(Kind):
    """state(options, dim): the dimensions that the evolution acts on."""

    state: Callable[[Options, int], int] = _same


def _single(a: Assembly, o: Options) -> Mixer:
    return a.dynamics(a.query, a.key)


def _second(sizes: Sizes, o: Options) -> list[Signal]:
    twins = [replace(s, name=f"second_{s.name}", says=f"of the second system: {s.says}") for s in sizes.vectors]
    says = "how much of the second system is taken off"
    return [*twins, Signal("weight", (), sizes.heads, "parameter", init=constant(0.8), says=says)]


def _difference(a: Assembly, o: Options) -> Mixer:
    first, second = (a.dynamics(a.vector(f"{n}query"), a.vector(f"{n}key")) for n in ("", "second_"))
    return CoefficientSum((first, second), (1.0, -a["weight"]))


def _needs_diagonal(spec: MixerSpec) -> None:
    if spec.evolution.kind != "diagonal" or spec.evolution.options["frequency"] or spec.key.source == "evolution":
        raise InputError(
            f"system slots: evolution {spec.evolution.kind} with key.source {spec.key.source}: slots need evolution "
            "diagonal, without frequency, which says how each forgets, and a key of their own"
        )
    if spec.support.kind != "causal":
        raise InputError(f"system slots: support {spec.support.kind}: slots hold all tokens so far, support causal")
    if spec.query.imaginary or spec.key.imaginary:
        raise InputError("system slots: query and key must be real: what the slots are asked passes a softmax")


def _slots(a: Assembly, o: Options) -> Mixer:
    """A slot m is written with 1 - a_m and forgets with a_m; the query asks the slots' keys, then the slots' values."""
    decay, slots = a.decay(), a.dim
    written = opened(decay)
    heads = max(a.query.shape[2], a.key.shape[2], written.shape[2])
    gates, written = ({n: spread(x, heads, 2).flatten(2) for n, x in decay.named.items()}, spread(written, heads, 2))
    first = CoefficientDynamics(a.query, a.key, Scalar(**gates), support=a.support, length=a.time)
    written = written.expand(-1, a.time, -1, -1)
    scores = (first.operator() @ written.flatten(2).unsqueeze(-1).to(a.dtype)).unflatten(2, (heads, slots)).squeeze(-1)
    return a.dynamics(torch.softmax(scores, -1), written.to(a.dtype))


WEIGHTS = ("beta", "step", "input_gate")  # of the tokens in the least-squares fit


def _needs_scalar(spec: MixerSpec) -> None:
    fits = spec.evolution.kind == "scalar" and spec.scaling.kind in WEIGHTS and spec.support.kind == "causal"
    if not fits:
        told = f"evolution {spec.evolution.kind}, scaling {spec.scaling.kind}, support {spec.support.kind}"
        wanted = f"evolution scalar, scaling {', '.join(WEIGHTS[:-1])} or {WEIGHTS[-1]}, and support causal"
        raise InputError(f"system ridge: {told}: it needs {wanted}")


def _ridge_signals(sizes: Sizes, o: Options) -> list[Signal]:
    told = {"transform": "softplus", "low": 0, "init": constant(1.0), "says": "added to the Gram matrix's diagonal"}
    return [Signal("ridge", (sizes.dim,), sizes.heads, "parameter", **told)]


def _ridge(a: Assembly, o: Options) -> Mixer:
    b = a.scaling()
    assert isinstance(b, Tensor)
    b = b.expand(-1, a.time, -1)
    log = torch.log(a.decay().factor) if a.decay().log is None else a.decay().log
    assert log is not None
    asked = mesa_net(a.query, a.key, log.expand(-1, a.time, -1), b, a["ridge"].flatten(0, 2)).query
    return a.dynamics(asked, a.key)


SYSTEMS = table(
    System("single", "one system", _single),
    System(
        "difference",
        "two systems sharing the values, the second with its own query and key, taken off with a learned weight",
        _difference,
        {},
        _second,
    ),
    System(
        "slots",
        "the query reads the keys of learned slots, the softmax of that reads their values; A is diagonal over slots",
        _slots,
        {"slots": Option(integer(), says="how many")},
        check=_needs_diagonal,
        state=lambda o, dim: o["slots"],
    ),
    System(
        "ridge",
        "the query is solved with the keys' decayed Gram matrix: the least-squares fit of all values so far",
        _ridge,
        {},
        _ridge_signals,
        check=_needs_scalar,
    ),
)
