"""A_t a matrix: any, a forced oscillator's, or that of a state space model with a low-rank correction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixerlens.design.inits import uniform
from mixerlens.design.parts.evolution.decay import FORMS
from mixerlens.design.parts.kind import Kind, Options, Pieces, Sizes
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, flag
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Dense, Evolution
from mixerlens.families import linoss, s4
from mixerlens.shapes import wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def _dense(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    return replace(pieces, evolution=Dense(a["matrix"]))


def _oscillator_signals(sizes: Sizes, o: Options) -> list[Signal]:
    if sizes.dim != 2:
        raise InputError(f"dim: {sizes.dim} must be 2 for evolution oscillator, whose state is velocity and place")
    told: dict[str, Any] = {"source": "parameter", "low": 0}
    step: dict[str, Any] = {"transform": "sigmoid", "init": uniform(0.05, 0.95), "says": "the length of a token"}
    return [
        Signal("stiffness", (), sizes.heads, **told, transform="relu", init=uniform(0, 1), says="squared frequency"),
        Signal("step", (), sizes.heads, **told, **step),
    ]


def _forced(a: Assembly, o: Options) -> tuple[Evolution, Tensor]:
    """A and the force that enters."""
    given = [a[name] for name in ("stiffness", "step")]
    if any(x.shape[:2] != (1, 1) for x in given):
        raise InputError("evolution oscillator: stiffness and step must be parameters, the same for every token")
    heads = max(x.shape[2] for x in given)
    stiffness, step = (x[0, 0].expand(heads) for x in given)
    found = linoss(stiffness, step, a.time, implicit=o["implicit"])
    return found.evolution, found.key


def _oscillator(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    return replace(pieces, evolution=_forced(a, o)[0])


def _bilinear_signals(sizes: Sizes, o: Options) -> list[Signal]:
    """All start at HiPPO-LegS in the basis where its normal part is diagonal."""
    shape, heads = (sizes.dim,), sizes.heads
    rate, step = FORMS["rate"](shape, heads)
    says = {
        "frequency": "the imaginary part of the rate",
        "low_rank": "P of diag(rate + i frequency) - P P^*",
        "low_rank_imag": "the imaginary part of P",
    }
    return [
        replace(rate, init=None, function="legs_rate"),
        *(Signal(name, shape, heads, "parameter", function=f"legs_{name}", says=told) for name, told in says.items()),
        replace(step, source="parameter"),
    ]


def _bilinear(a: Assembly, o: Options, pieces: Pieces) -> Pieces:
    """The modes and their conjugates, which the low rank couples: the state has twice ``dim`` numbers."""
    named = {"rate": a["rate"], "step": a["step"], "low_rank": a["low_rank"], "key": pieces.written}
    if any(x.shape[:2] != (1, 1) for x in named.values()):
        raise InputError(
            "evolution bilinear: rate, step, low_rank and key must be parameters, the same for every token"
        )
    heads = max(x.shape[2] for x in named.values())

    def system(x: Tensor, y: Tensor | None = None) -> Tensor:
        z = x if y is None else torch.complex(*torch.broadcast_tensors(wide(x), wide(y)))
        return z[0, 0].expand(heads, *z.shape[3:])

    rate, low_rank = system(a["rate"], a["frequency"]), system(a["low_rank"], a["low_rank_imag"])
    key = pieces.written if pieces.written.is_complex() else pieces.written.to(pieces.written.dtype.to_complex())
    found: CoefficientDynamics = s4(rate, low_rank, system(key), torch.ones_like(rate), system(a["step"]), a.time)
    query = torch.cat([pieces.query, pieces.query.conj()], -1)
    written = found.key.to(torch.promote_types(key.dtype, torch.complex64))
    return Pieces(query, pieces.key, written, pieces.scaling, found.evolution)


DENSE = Kind(
    "dense",
    "A_t = matrix_t, any: by default HiPPO-LegS's function of the token's number",
    _dense,
    {},
    lambda sizes, o: [Signal("matrix", (sizes.dim, sizes.dim), 1, "position", function="legs", says="A_t itself")],
    plain=True,
)
OSCILLATOR = Kind(
    "oscillator",
    "A of a forced harmonic oscillator on (velocity, place): implicit damps, else its volume stays",
    _oscillator,
    {"implicit": Option(flag, True)},
    _oscillator_signals,
    plain=True,
    entry=lambda a, o: _forced(a, o)[1],
)
BILINEAR = Kind(
    "bilinear",
    "A of x' = (diag(rate + i frequency) - P P^*) x + key u, bilinear in steps: the modes and their conjugates",
    _bilinear,
    {},
    _bilinear_signals,
)
