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
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.measures.record import Record
from mixerlens.operator.memory import require
from mixerlens.ring.network import RingNetwork

__all__ = ["Dispersion", "Waves", "dispersion", "participation_ratio", "waves"]

NULLS = 20
LAP = 64  # moments a lap is seen at
ALIAS = 2.0**-21  # of a frequency: how far rounding in float32 moves it, with room


@dataclass(frozen=True, eq=False)
class Dispersion(Record):
    """Frequencies around the ring, one entry a ring and node unless said otherwise.

    frequency: radians a token. group_velocity: nodes a token towards larger j, between mode n and n + 1 (rings,
    nodes - 1). lap_time: tokens in which the middle group velocity goes around, infinite where nothing moves.
    lap_decay: what is left of the middle mode after that, |multiplier| to the power of it; NaN where nothing moves.
    spread: interquartile range of the group velocity over its middle's size: 0 keeps a pulse sharp.
    distinct: modes that are no alias of another: sampled once a token, frequencies apart by a multiple of 2 pi are one.
    beyond_nyquist: modes that turn by more than pi a token.
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
        "lap_decay": "What a lap leaves of the middle mode; null: nothing moves.",
        "spread": "Interquartile range of the group velocity over the size of its middle; 0 keeps a pulse sharp.",
        "distinct": "Modes that are no alias of another, equal to it once sampled.",
        "beyond_nyquist": "Modes that turn by more than pi a token.",
        "nodes": "Nodes of the ring, one a mode.",
    }
    units: ClassVar[dict[str, str]] = {"lap_time": "tokens", "distinct": "modes", "beyond_nyquist": "modes"}

    def to_json(self) -> dict[str, Any]:
        """One number a ring."""
        names = ("lap_time", "lap_decay", "spread", "distinct", "beyond_nyquist", "nodes")
        return self._described({name: getattr(self, name) for name in names})


def dispersion(ring: RingNetwork) -> Dispersion:
    """How the frequencies run around the ring; what changes with the token counts with its mean (`mean_log`)."""
    log, nodes = ring.mean_log, ring.nodes
    frequency = log.imag
    velocity = -nodes / (2 * math.pi) * frequency.diff(dim=-1)
    if nodes == 1:
        velocity = frequency.new_zeros(ring.rings, 1)
    middle = velocity.nanmedian(-1).values
    quarter = torch.nanquantile(velocity, torch.tensor([0.25, 0.75], dtype=torch.float64), dim=-1)
    still = (middle == 0) | middle.isnan()
    lap = torch.where(still, torch.inf, nodes / middle.abs())
    decay = torch.exp(log.real.median(-1).values * lap)
    return Dispersion(
        frequency=frequency,
        group_velocity=velocity,
        lap_time=lap,
        lap_decay=torch.where(still, torch.nan, decay),
        spread=torch.where(still, torch.nan, (quarter[1] - quarter[0]) / middle.abs()),
        distinct=_distinct(log),
        beyond_nyquist=(frequency.abs() > math.pi).sum(-1),
        nodes=nodes,
    )


@dataclass(frozen=True, eq=False)
class Waves(Record):
    """A pulse on its way around from node 0 (`RingNetwork.pulse`), and what random orders make of it.

    tokens: when it is looked at, (moments, rings): 64 moments a lap, a ring's own laps, so that all pictures share one
        scale; where nothing moves, evenly over the tokens there are.
    space_time: |z| of the nodes, 1 at node 0 at token 0, (moments, rings, nodes). shuffled: the same in the
        first of the random orders. phase: arg z of the nodes in their sorted order, radians, (moments, rings, nodes).
    participation: nodes that carry it, (sum |z|^2)^2 / sum |z|^4, between 1 and N, (moments, rings); null: the mean of
        that over `nulls` random orders of the modes.
    quarter, half, quarter_null, half_null: both after a quarter and half of a lap, where a random order has no pulse
        (after exactly a lap of S4D-Lin every order is back at one node); NaN where nothing moves, or in under 4 tokens.
    lap_mean, lap_null: both on average over the first lap, between the nodes too.
    displacement: nodes by which the peak has moved from node 0, signed, the short way around, (moments,
        rings); 0 once less than 1e-6 of the pulse is left.
    travels: whether modes turn and the peak leaves the nodes next to node 0, (rings,); under 4 nodes never.
    diffusive: whether no mode turns, so that K is Hermitian and the peak stays where it is, (rings,).
    """

    tokens: Int[Tensor, "moments rings"] = field(repr=False)
    space_time: Float[Tensor, "moments rings nodes"] = field(repr=False)
    shuffled: Float[Tensor, "moments rings nodes"] = field(repr=False)
    phase: Float[Tensor, "moments rings nodes"] = field(repr=False)
    participation: Float[Tensor, "moments rings"] = field(repr=False)
    null: Float[Tensor, "moments rings"] = field(repr=False)
    quarter: Float[Tensor, " rings"]
    half: Float[Tensor, " rings"]
    quarter_null: Float[Tensor, " rings"]
    half_null: Float[Tensor, " rings"]
    lap_mean: Float[Tensor, " rings"]
    lap_null: Float[Tensor, " rings"]
    displacement: Int[Tensor, "moments rings"] = field(repr=False)
    travels: Bool[Tensor, " rings"]
    diffusive: Bool[Tensor, " rings"]
    dispersion: Dispersion
    nulls: int

    labels: ClassVar[dict[str, str]] = {
        "quarter": "Nodes that carry the pulse after a quarter of a lap (participation ratio).",
        "half": "The same after half a lap.",
        "quarter_null": "The same for random orders of the modes, their mean, at a quarter of a lap.",
        "half_null": "The same at half a lap.",
        "lap_mean": "Nodes that carry the pulse, on average over the first lap.",
        "lap_null": "The same for random orders.",
        "peak_displacement": "Largest distance of the peak from node 0.",
        "diffusive": "Whether no mode turns: the pulse spreads in place.",
        "travels": "Whether modes turn and the peak leaves the nodes next to node 0.",
        "nulls": "Random orders the null is the mean of.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(
        ["quarter", "half", "quarter_null", "half_null", "lap_mean", "lap_null", "peak_displacement"], "nodes"
    )

    @property
    def peak_displacement(self) -> Int[Tensor, " rings"]:
        """The farthest the peak gets, in nodes."""
        return self.displacement.abs().amax(0)

    def to_json(self) -> dict[str, Any]:
        """One number a ring."""
        carriers = ("quarter", "half", "quarter_null", "half_null", "lap_mean", "lap_null")
        names = (*carriers, "peak_displacement", "travels", "diffusive", "nulls")
        numbers = self._described({name: getattr(self, name) for name in names})
        return numbers | {"dispersion": self.dispersion.to_json()}


def waves(ring: RingNetwork, *, laps: float = 2.0, nulls: int = NULLS, seed: int = 0) -> Waves:
    """A pulse on its way around from node 0 for so many laps, beside ``nulls`` random orders of the modes.

    A network that changes with the token is followed as far as its tokens reach. Raises InputError for less than half a
    lap or no null, MemoryBudgetError where moments x rings x nodes numbers do not fit.
    """
    if not laps >= 0.5 or nulls < 1:
        raise InputError(f"laps must be at least 0.5 and nulls at least 1, not {laps:g} and {nulls}")
    found = dispersion(ring)
    tokens = _moments(ring, found, round(laps * LAP) + 1)
    require(
        "the space-time picture", 4, *tokens.shape, ring.nodes, dtype=torch.complex128, instead="fewer laps or rings"
    )
    response = ring.pulse(tokens)
    size, here = response.abs(), participation_ratio(response)
    first = ring.shuffled(seed).pulse(tokens)
    others = (ring.shuffled(seed + k).pulse(tokens) for k in range(1, nulls))
    null = torch.stack([participation_ratio(first), *map(participation_ratio, others)]).mean(0)
    moved = (size.argmax(-1) + ring.nodes // 2) % ring.nodes - ring.nodes // 2
    left = size.square().sum(-1) > 1e-12 * size[0].square().sum(-1)
    moves = found.lap_time.isfinite() & (found.lap_time >= 4) & (tokens[LAP // 2] + 1 >= found.lap_time / 2)

    def after(values: Tensor, moment: int) -> Tensor:
        return torch.where(moves, values[moment], torch.nan)

    return Waves(
        tokens=tokens,
        space_time=size,
        shuffled=first.abs(),
        phase=response.angle(),
        participation=here,
        null=null,
        quarter=after(here, LAP // 4),
        half=after(here, LAP // 2),
        quarter_null=after(null, LAP // 4),
        half_null=after(null, LAP // 2),
        lap_mean=torch.where(moves, here[:LAP].mean(0), torch.nan),
        lap_null=torch.where(moves, null[:LAP].mean(0), torch.nan),
        displacement=torch.where(left, moved, 0),
        travels=found.lap_time.isfinite() & (torch.where(left, moved, 0).abs().amax(0) > 1),
        diffusive=(found.frequency.nan_to_num() == 0).all(-1),
        dispersion=found,
        nulls=nulls,
    )


def _moments(ring: RingNetwork, found: Dispersion, count: int) -> Int[Tensor, "moments rings"]:
    """The tokens looked at: every 64th part of a ring's own lap, or evenly over what there is where nothing moves."""
    last = ring.length - 1 if ring.length is not None else None
    whole = float(last if last is not None else count - 1)
    step = torch.where(found.lap_time.isfinite(), found.lap_time / LAP, whole / (count - 1))
    tokens = (torch.arange(count, dtype=torch.float64)[:, None] * step).round().long()
    return tokens if last is None else tokens.clamp(max=last)


def participation_ratio(nodes: Complex[Tensor, "*batch nodes"]) -> Float[Tensor, "*batch"]:
    """(sum |z|^2)^2 / sum |z|^4: 1 where one node carries all, N where all carry alike; NaN where none does."""
    power = nodes.abs().square()
    power = power / power.amax(-1, keepdim=True)  # so that no square underflows
    return power.sum(-1).square() / power.square().sum(-1)


def _distinct(log: Tensor) -> Tensor:
    """How many modes of each ring are no alias of one before them: (rings,)."""
    apart = log[:, :, None] - log[:, None]
    turns = torch.round(apart.imag / (2 * math.pi))
    size = torch.maximum(log.abs()[:, :, None], log.abs()[:, None]) * ALIAS
    same = (apart.real.abs() <= size) & ((apart.imag - 2 * math.pi * turns).abs() <= size)
    return log.shape[-1] - ((turns != 0) & same).tril(-1).any(-1).sum(-1)
