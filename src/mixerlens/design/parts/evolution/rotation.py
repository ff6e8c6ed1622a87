"""A_t = a_t R(angle_t): rotary positions inside the equation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch.nn.functional import pad

from mixerlens.design.parts.evolution.decay import FORMS, decay_of, option
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, choice, flag, integer
from mixerlens.errors import InputError
from mixerlens.evolution import Rotation
from mixerlens.shapes import wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def pairs_of(dim: int, o: Options) -> int:
    """How many planes turn. Raises InputError unless the dimensions hold them."""
    pairs = dim // 2 if o["pairs"] is None else o["pairs"]
    if dim % 2 or 2 * pairs > dim:
        raise InputError(f"pairs: {pairs} planes need an even dim of at least {2 * pairs}, dim is {dim}")
    return pairs


def _signals(sizes: Sizes, o: Options) -> list[Signal]:
    pairs = pairs_of(sizes.dim, o)
    says = "radians a token" + ", times its step" * o["by_step"]
    angle = Signal("angle", (pairs,), 1, "constant", function="rope", says=says)
    return [angle, *FORMS[o["decay"]]((), sizes.heads)]


def _build(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    decay = decay_of(a, o["decay"])
    angle = wide(a["angle"])
    if o["by_step"]:
        if decay.step is None:
            raise InputError("evolution.by_step: only decay 'rate' has a step that the angle could be multiplied by")
        angle = angle * decay.step.unsqueeze(-1)
    angle = pad(angle, (0, a.dim // 2 - angle.shape[-1]))  # planes that do not turn
    return replace(pieces, evolution=Rotation(angle, o["layout"], **decay.named))


ROTATION = Kind(
    "rotation",
    "A_t = a_t R(angle_t), a turn in every plane; RoPE is a constant angle -theta and no decay",
    _build,
    {
        "decay": option("none", none=True),
        "layout": Option(choice("half", "interleaved"), "half"),
        "pairs": Option(integer(none=True), None),
        "by_step": Option(flag, False),
    },
    _signals,
    plain=True,
    decay=lambda a, o: decay_of(a, o["decay"]),
)
