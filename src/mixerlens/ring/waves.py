"""What travels on a ring: the space-time picture of one impulse, and the numbers that say whether it is a wave.

Node j carries sum_n x_n exp(2 pi i n j / N) / sqrt(N), and mode n turns as exp(i omega_n t): where neighbours in n are
neighbours in frequency, a pulse moves with the group velocity -(N / 2 pi) d omega / dn. S4D-Lin, omega_n = pi n, is
damped transport: one node in 2 / N of its time, a lap in a time of 2, a factor e^-1 a lap. Any other order of the modes
is an equally exact ring without a pulse, so every number here stands beside the same number of random orders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.measures.record import Record
from mixerlens.operator.memory import require
from mixerlens.ring.network import RingNetwork

__all__ = ["Dispersion", "Waves", "dispersion", "participation_ratio", "waves"]

NULLS = 20
SHOWN = 256  # tokens of the space-time picture in JSON
ALIAS = 1e-7  # turns a token: phases closer than this are one discrete mode, in float32 parameters too


@dataclass(frozen=True, eq=False)
class Dispersion(Record):
    """Frequencies around the ring, one entry a ring and node unless said otherwise.

    frequency: radians a token. group_velocity: nodes a token towards larger j, between mode n and n + 1 (rings,
    nodes - 1). lap_time: tokens in which the middle group velocity goes around, infinite where nothing moves.
    lap_decay: what is left of the middle mode after that, |multiplier| to the power of it; 0 where nothing moves.
    spread: interquartile range of the group velocity over its middle's size: 0 keeps a pulse sharp.
    distinct: discrete modes that differ in their phase a token; the rest are aliases of one another. beyond_nyquist:
    modes that turn by more than pi a token.
    """

    frequency: Float[Tensor, "rings nodes"] = field(repr=False)
    group_velocity: Float[Tensor, "rings nodes-1"] = field(repr=False)
    lap_time: Float[Tensor, " rings"]
    lap_decay: Float[Tensor, " rings"]
    spread: Float[Tensor, " rings"]
    distinct: Int[Tensor, " rings"]
    beyond_nyquist: Int[Tensor, " rings"]
    nodes: int

    labels: ClassVar[dict[str, str]] = {
        "lap_time": "Time in which the middle group velocity goes around the ring; null: nothing moves.",
        "lap_decay": "What a lap leaves of the middle mode; 0 where nothing moves.",
        "spread": "Interquartile range of the group velocity over the size of its middle; 0 keeps a pulse sharp.",
        "distinct": "Modes that differ in their phase a token; the others are aliases.",
        "beyond_nyquist": "Modes that turn by more than pi a token.",
        "nodes": "Nodes of the ring, one a mode.",
    }
    units: ClassVar[dict[str, str]] = {"lap_time": "tokens", "distinct": "modes", "beyond_nyquist": "modes"}

    def to_json(self) -> dict[str, Any]:
        """One number a ring."""
        names = ("lap_time", "lap_decay", "spread", "distinct", "beyond_nyquist", "nodes")
        return self._described({name: getattr(self, name) for name in names})


def dispersion(ring: RingNetwork) -> Dispersion:
    """How the frequencies of a constant network, or of one with a clock of its own, run around the ring.

    A clock that changes with the token (Mamba) counts with its mean over the first sequence. Raises UnsupportedError
    where decays change freely with the token.
    """
    log = ring.generator * ring.clock[0].mean(0)[:, None]
    frequency, nodes = log.imag, ring.nodes
    velocity = -nodes / (2 * math.pi) * frequency.diff(dim=-1)
    if nodes == 1:
        velocity = frequency.new_zeros(ring.rings, 1)
    middle = velocity.median(-1).values
    quarter = torch.quantile(velocity, torch.tensor([0.25, 0.75], dtype=torch.float64), dim=-1)
    lap = torch.where(middle == 0, torch.inf, nodes / middle.abs())
    decay = torch.exp(log.real.median(-1).values * lap)
    phase = frequency / (2 * math.pi)
    return Dispersion(
        frequency=frequency,
        group_velocity=velocity,
        lap_time=lap,
        lap_decay=torch.where(lap.isinf(), 0, decay),
        spread=torch.where(middle == 0, torch.nan, (quarter[1] - quarter[0]) / middle.abs()),
        distinct=_distinct(phase - phase.floor()),
        beyond_nyquist=(frequency.abs() > math.pi).sum(-1),
        nodes=nodes,
    )


@dataclass(frozen=True, eq=False)
class Waves(Record):
    """One impulse on its way around, and what random orders make of it.

    space_time: |z| of the nodes after a unit entered at token 0, (tokens, rings, nodes). participation: nodes that
    carry it, (sum |z|^2)^2 / sum |z|^4, between 1 and N, (tokens, rings); null: the mean of that over `nulls` random
    orders of the modes. quarter, half: both at a quarter and half of a lap, where a random order has no pulse (after
    exactly a lap of S4D-Lin every order is back at one node); NaN where nothing moves or the tokens do not reach.
    displacement: nodes by which the peak has moved away from where it entered, signed, the short way around, (tokens,
    rings). travels: whether the peak ever leaves the nodes next to where it entered while 1e-6 of the impulse is left.
    """

    space_time: Float[Tensor, "tokens rings nodes"] = field(repr=False)
    participation: Float[Tensor, "tokens rings"] = field(repr=False)
    null: Float[Tensor, "tokens rings"] = field(repr=False)
    quarter: Float[Tensor, " rings"]
    half: Float[Tensor, " rings"]
    quarter_null: Float[Tensor, " rings"]
    half_null: Float[Tensor, " rings"]
    displacement: Int[Tensor, "tokens rings"] = field(repr=False)
    travels: Tensor
    dispersion: Dispersion
    nulls: int

    labels: ClassVar[dict[str, str]] = {
        "quarter": "Nodes that carry the impulse a quarter of a lap after it entered (participation ratio).",
        "half": "The same after half a lap.",
        "quarter_null": "The same for random orders of the modes, their mean, at a quarter of a lap.",
        "half_null": "The same at half a lap.",
        "peak_displacement": "Largest distance of the peak from where the impulse entered.",
        "travels": "Whether the peak leaves the nodes next to where it entered.",
        "space_time": "Size of the nodes (row: token, column: node) after a unit entered, first ring.",
        "participation": "Nodes that carry the impulse, token by token, first ring.",
        "null": "The same, mean over random orders.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(
        ["quarter", "half", "quarter_null", "half_null", "peak_displacement", "participation", "null"], "nodes"
    )

    @property
    def peak_displacement(self) -> Int[Tensor, " rings"]:
        """The farthest the peak gets, in nodes."""
        return self.displacement.abs().amax(0)

    def to_json(self) -> dict[str, Any]:
        """Numbers a ring; pictures of the first ring, its first 256 tokens."""
        names = ("quarter", "half", "quarter_null", "half_null", "peak_displacement", "travels", "nulls")
        pictures = {name: getattr(self, name)[:SHOWN, 0] for name in ("space_time", "participation", "null")}
        return self._described({n: getattr(self, n) for n in names} | pictures) | {
            "dispersion": self.dispersion.to_json()
        }


def waves(ring: RingNetwork, tokens: int | None = None, *, nulls: int = NULLS, seed: int = 0) -> Waves:
    """One impulse on the ring, by default for two laps and at most 4,096 tokens, beside ``nulls`` random orders.

    Raises InputError for no tokens or nulls, MemoryBudgetError where tokens x rings x nodes numbers do not fit;
    UnsupportedError as `dispersion`.
    """
    found = dispersion(ring)
    if tokens is None:
        laps = found.lap_time[found.lap_time.isfinite()]
        tokens = min(4096, ring.length or 4096, max(2, math.ceil(2 * float(laps.max())) + 1) if len(laps) else 64)
    if tokens < 1 or nulls < 1:
        raise InputError(f"tokens and nulls must be at least 1, not {tokens} and {nulls}")
    require("the space-time picture", 4, tokens, ring.rings, ring.nodes, dtype=torch.complex128, instead="fewer tokens")
    response = ring.impulse_response(tokens)
    size = response.abs()
    orders = [participation_ratio(ring.shuffled(seed + k).impulse_response(tokens)) for k in range(nulls)]
    here, null = participation_ratio(response), torch.stack(orders).mean(0)
    entered = size[0].argmax(-1)
    moved = (size.argmax(-1) - entered + ring.nodes // 2) % ring.nodes - ring.nodes // 2
    left = size.square().sum(-1) > 1e-12 * size[0].square().sum(-1)
    moved = torch.where(left, moved, 0)
    at = {name: _at(share * found.lap_time, tokens) for name, share in (("quarter", 0.25), ("half", 0.5))}
    return Waves(
        space_time=size,
        participation=here,
        null=null,
        **{name: _pick(here, index) for name, index in at.items()},
        **{f"{name}_null": _pick(null, index) for name, index in at.items()},
        displacement=moved,
        travels=moved.abs().amax(0) > 1,
        dispersion=found,
        nulls=nulls,
    )


def participation_ratio(nodes: Complex[Tensor, "*batch nodes"]) -> Float[Tensor, "*batch"]:
    """(sum |z|^2)^2 / sum |z|^4: 1 where one node carries all, N where all carry alike; NaN where none does."""
    power = nodes.abs().square()
    power = power / power.amax(-1, keepdim=True)  # so that no square underflows
    return power.sum(-1).square() / power.square().sum(-1)


def _distinct(phase: Tensor) -> Tensor:
    """How many of the phases in [0, 1) differ, around the circle: (rings,)."""
    ordered = phase.sort(-1).values
    gaps = torch.cat([ordered.diff(dim=-1), ordered[:, :1] + 1 - ordered[:, -1:]], -1)
    return (gaps > ALIAS).sum(-1).clamp(min=1)


def _at(time: Tensor, tokens: int) -> Tensor:
    """The nearest token to a time, -1 where the picture does not reach it."""
    index = torch.where(time.isfinite(), time, -1.0).round().long()
    return torch.where(index < tokens, index, -1)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    picked = values.gather(0, index.clamp(min=0)[None])[0]
    return torch.where(index < 0, torch.nan, picked)
