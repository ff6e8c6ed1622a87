"""Several writes a token: each with a key and a value of its own. Values have heads * micro_steps heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mixerlens.design.inits import constant
from mixerlens.design.parts.evolution.decay import FORMS, decay_of, option
from mixerlens.design.parts.evolution.delta import beta
from mixerlens.design.parts.evolution.inner import INNER, inner_signals
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, integer
from mixerlens.errors import InputError
from mixerlens.evolution import MicroSteps
from mixerlens.families import delta_product
from mixerlens.shapes import spread

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly
    from mixerlens.design.spec import MixerSpec

STEPS = {"micro_steps": Option(integer(2, 16), 2)}


def _check(spec: MixerSpec) -> None:
    reasons = {
        "scaling": ("one", "every write has a strength of its own"),
        "system": ("single", "other systems are made for one key a token"),
        "normalizer": ("none", "eta is made for one impulse a token, and here it has several"),
        "positions": (
            "none",
            "only one key a token is turned, and here it has several; with evolution delta it has one",
        ),
    }
    for slot, (kind, reason) in reasons.items():
        if spec.kind(slot).name != kind:
            told = f"{slot}: {spec.kind(slot).name} beside evolution {spec.evolution.kind}"
            raise InputError(f"{told}: {reason}; take {slot} {kind}")
    if spec.key.source == "evolution" or spec.key.gate != "none" or spec.key.imaginary:
        raise InputError(f"key: evolution {spec.evolution.kind} has several keys a token: no gate, no imaginary part")


def _product(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    """A write of micro-step m is what the later micro-steps have left of beta_m k_m."""
    plain = delta_product(pieces.query, _timed(a, pieces.key), _timed(a, a["beta"]))
    decay = decay_of(a, o["decay"]).named
    evolution = plain.evolution
    if decay:
        assert isinstance(evolution, MicroSteps)
        named = {name: spread(x, plain.heads, 2) for name, x in decay.items()}
        evolution = MicroSteps(evolution.direction, evolution.beta, **named)
    return Pieces(pieces.query, pieces.key, plain.key, plain.scaling, evolution)


def _timed(a: Assembly, x: Tensor) -> Tensor:
    return x.expand(-1, a.time, *x.shape[2:])


def _writes(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    """All writes of a token enter behind A_t."""
    key, gain = pieces.written, a["gain"]
    heads = max(key.shape[2], gain.shape[2], pieces.query.shape[2])
    every = heads * o["micro_steps"]
    inner = a.inner(o["inner"], pieces).map(lambda x: spread(x, every, 2))
    written = spread(key, heads, 2).expand(-1, -1, heads, -1, -1).flatten(2, 3)
    scaling = spread(gain, heads, 2).expand(-1, -1, heads, -1).flatten(2)
    return Pieces(pieces.query, pieces.key, written, scaling, inner)


def _writes_signals(sizes: Sizes, o: Options) -> list[Signal]:
    kind, options = o["inner"].kind, o["inner"].options
    if options.get("direction") == "key":
        raise InputError(f"evolution.inner: {kind} along the key: several writes have no one key; take direction own")
    says = "how strongly each write enters"
    gain = Signal("gain", (o["micro_steps"],), sizes.heads, transform="sigmoid", init=constant(0.5), says=says)
    return [gain, *inner_signals(sizes, o)]


DELTA_PRODUCT = Kind(
    "delta_product",
    "A_t = a_t H_M ... H_1, H_m = I - beta_m k_m k_m^T: M delta steps a token, each with its write",
    _product,
    STEPS | {"decay": option("none", none=True)},
    lambda sizes, o: [beta(sizes.heads, o["micro_steps"]), *FORMS[o["decay"]]((), sizes.heads)],
    check=_check,
)
WRITES = Kind(
    "writes",
    "A_t of the inner evolution, and M writes a token that take nothing off",
    _writes,
    STEPS | INNER,
    _writes_signals,
    check=_check,
)
