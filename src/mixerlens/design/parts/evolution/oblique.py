"""A_t = D_t and an exchange of rank one: delta rules that gate each dimension, erase another vector, or read first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from mixerlens.design.inits import constant
from mixerlens.design.parts.evolution.decay import FORMS, decay_of, option
from mixerlens.design.parts.evolution.delta import beta, own_direction
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, choice, flag
from mixerlens.evolution import DiagonalPlusRankOne
from mixerlens.families.weights import weighted

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly
    from mixerlens.design.parts.evolution.decay import Decay


def _signals(sizes: Sizes, o: Options) -> list[Signal]:
    heads, dim = sizes.heads, sizes.dim
    found = [*own_direction(sizes, o), *FORMS[o["decay"]]((dim,) if o["per_dimension"] else (), heads)]
    if o["erase"] == "own":
        found.append(Signal("feedback", (dim,), heads, norm="l2", says="p, which reads what is taken off"))
    if o["erase"] == "scaled":
        told = {"transform": "sigmoid", "init": constant(0.5)}
        found.append(Signal("feedback_scale", (), heads, "parameter", **told, says="p = feedback_scale w"))
    if o["strength"] == "number":
        found.append(beta(heads))
    else:
        says = f"how strongly each dimension {'is written' if o['strength'] == 'written' else 'is read'}"
        found.append(Signal("rates", (dim,), heads, transform="sigmoid", init=constant(0.5), says=says))
    return found


def _decay(a: Assembly, o: Options) -> Decay:
    return decay_of(a, o["decay"], dim=a.dim if o["per_dimension"] else None)


def _build(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    left = pieces.key if o["direction"] == "key" else a["direction"]
    right = {"same": left, "own": None, "scaled": left}[o["erase"]]
    read: dict[str, Tensor] = {"erase": a["feedback"] if right is None else right}
    if o["erase"] == "scaled":
        read["feedback_scale"] = a["feedback_scale"]
    decay = _decay(a, o).column(not o["per_dimension"])
    if o["strength"] == "written":
        left = weighted(direction=left, rates=a["rates"])
    else:
        strength = "beta" if o["strength"] == "number" else "rates"
        read[strength] = a[strength]
    if o["order"] == "decay_first":
        read["decay"] = decay.factor
    right = read["erase"] if len(read) == 1 else weighted(**read)
    return replace(pieces, evolution=DiagonalPlusRankOne(-left, right, **decay.named))


OBLIQUE = Kind(
    "oblique",
    "A_t = (I - beta_t w_t p_t^T) D_t (order decay_first) or D_t - beta_t w_t p_t^T (order together)",
    _build,
    {
        "direction": Option(choice("key", "own"), "key"),
        "erase": Option(choice("same", "own", "scaled"), "same"),
        "strength": Option(choice("number", "read", "written"), "number"),
        "decay": option("log_decay"),
        "per_dimension": Option(flag, True),
        "order": Option(choice("decay_first", "together"), "decay_first"),
    },
    _signals,
    plain=True,
    decay=_decay,
)
