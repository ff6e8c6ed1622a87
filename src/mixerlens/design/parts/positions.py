"""What is done to query and key by the token's number, outside the equation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import pad

from mixerlens.design.parts.evolution.rotation import pairs_of
from mixerlens.design.parts.kind import Kind, Options, Sizes, table
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, choice, integer, number
from mixerlens.errors import InputError
from mixerlens.evolution.rotation import rotate
from mixerlens.shapes import wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly
    from mixerlens.design.spec import MixerSpec


def _signals(sizes: Sizes, o: Options) -> list[Signal]:
    told = {"function": "rope_phase", "arguments": {"base": o["base"]}}
    pairs = pairs_of(sizes.dim, o)
    return [Signal("phase", (pairs,), 1, "position", **told, says="the angle by which q_t and k_t are turned")]


def _turn(a: Assembly, o: Options, x: Tensor) -> Tensor:
    phase = wide(a["phase"])
    phase = pad(phase, (0, x.shape[-1] // 2 - phase.shape[-1]))
    return rotate(x, phase, o["layout"])


def _check(spec: MixerSpec) -> None:
    if spec.key.source == "evolution":
        raise InputError("positions rope: key.source evolution: what the evolution lets in is not turned: drop one")


POSITIONS = table(
    Kind("none", "query and key know nothing of positions", lambda a, o, x: x),
    Kind(
        "rope",
        "q_t and k_t are turned by t theta; with A_t = I the same as evolution rotation by -theta",
        _turn,
        {
            "base": Option(number(1), 10000.0),
            "layout": Option(choice("half", "interleaved"), "half"),
            "pairs": Option(integer(none=True), None),
        },
        _signals,
        check=_check,
    ),
)
