"""The pair form: the logit as a constant, waves by themselves, and the interaction of every two waves. No series.

    f(y) = linear y + curvature(y) y^2        and        y = sum_g y^(g)
    logit = constant + sum_g linear_g + sum_gg' A_gg',   A_gg' = sum_th omega_th curvature(y_th) y^(g)_th y^(g')_th

A wave is what a segment of the encoded input launches, or what it differs from a baseline by; one more, the bias wave,
is what the encoder's bias, those of earlier blocks and the baseline launch. omega is the head's row pulled back through
the last block's output map. The interactions are those of the last block's activation; earlier blocks, norms and the
last GLU are held as in the gate form.

Since curvature(y) sees all waves, A is bookkeeping of this pass, its diagonal too; `removal` says what happens without
a segment. Diagonal and rest often cancel almost wholly: shares of them in percent would say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from ..measures.record import Record
from ..operator.memory import require
from .carry import CHUNK, CarriedSystem
from .layer import Block, Forward

__all__ = ["SEGMENTS", "PairForm", "pair_form", "segment_borders"]

SEGMENTS = 32


@dataclass(frozen=True, eq=False)
class PairForm(Record):
    """linear: (segments + 1,), the bias wave last. interactions: symmetric (segments + 1, segments + 1).

    borders: segment g holds the time steps borders[g] <= t < borders[g + 1]. baseline: (time, channels), what launches
    no wave of its own. held: what is a constant of this account.
    """

    question: str
    borders: tuple[int, ...]
    baseline: Tensor = field(repr=False)
    constant: float
    linear: Tensor = field(repr=False)
    interactions: Tensor = field(repr=False)
    logit: float
    held: tuple[str, ...]

    labels: ClassVar[dict[str, str]] = {
        "borders": "Segment g of the input holds the time steps borders[g] <= t < borders[g + 1].",
        "constant": "The head's bias and that of the last block's output map.",
        "linear": "What each wave adds by itself through the residual and the activation's slope at 0; bias wave last.",
        "interactions": "Bookkeeping of this pass: what each two waves add together, twice off the diagonal (A is "
        "symmetric); the diagonal is a wave with itself. The gain of a pair sees every wave.",
        "logit": "What the pass gave.",
        "held": "Gates of this pass that the account takes as constants.",
    }
    units: ClassVar[dict[str, str]] = {
        "borders": "time steps",
    } | dict.fromkeys(("constant", "linear", "interactions", "logit"), "logit")

    @property
    def total(self) -> float:
        return self.constant + float(self.linear.sum()) + float(self.interactions.sum())

    @property
    def removal_effects(self) -> Tensor:
        """What the account says that each segment gives: its linear part and every pair it is in, (segments,)."""
        pairs = self.interactions
        return (self.linear + 2 * pairs.sum(1) - pairs.diagonal())[:-1]

    def to_json(self) -> dict[str, Any]:
        return self._described(
            {
                "question": self.question,
                "borders": self.borders,
                "constant": self.constant,
                "linear": self.linear,
                "interactions": self.interactions,
                "total": self.total,
                "logit": self.logit,
                "held": self.held,
            }
        )


def segment_borders(time: int, segments: int) -> tuple[int, ...]:
    """Borders of ``segments`` runs of time steps whose lengths differ by one at most; a step a run where time is short.

    Raises InputError for less than one segment, or a part of one.
    """
    if isinstance(segments, bool) or not isinstance(segments, int):
        raise InputError(f"segments {segments}: give a whole number")
    if segments < 1:
        raise InputError(f"segments {segments}: at least one is needed")
    count = min(segments, time)
    return tuple(g * time // count for g in range(count + 1))


@torch.no_grad()
def pair_form(
    forward: Forward,
    segments: int = SEGMENTS,
    baseline: Float[Tensor, "time channels"] | Float[Tensor, " channels"] | None = None,
) -> PairForm:
    """All waves of a recorded pass and their interactions, in one walk over time that keeps a chunk of each wave.

    baseline: an input that counts as none, zero unless given; its waves join the bias wave.
    Time O(segments length), memory O(segments (chunk + modes)) a feature beside the recorded pass.

    Raises InputError for less than one segment, or a baseline of another shape or with numbers that are not finite;
    MemoryBudgetError for so many segments that a chunk of them does not fit.
    """
    borders = segment_borders(len(forward.x), segments)
    baseline = _baseline(forward.inputs, baseline)
    time, waves = len(forward.x), len(borders)
    shape = (waves, CHUNK, forward.x.shape[1])
    require("a chunk of the waves", *shape, dtype=torch.float64, copies=8, instead="ask for fewer segments")
    last = forward.blocks[-1]
    omega, constant = last.reading(forward.cotangent)
    gains = omega * last.layer.activation.curvature(last.y)
    systems = [CarriedSystem(block.layer.s4d, waves) for block in forward.blocks]
    linear, pairs = forward.x.new_zeros(waves), forward.x.new_zeros(waves, waves)
    for lo in range(0, time, CHUNK):
        now = slice(lo, min(lo + CHUNK, time))
        x = _launched(forward, baseline, borders, now)
        n = x.shape[-1]
        for block, system in zip(forward.blocks, systems, strict=True):
            y = system(_normed(block, x, now))
            if block is not last:
                x = x + _passed(block, y, now)
        flat = y.flatten(0, 1)  # (features time, waves)
        slope = last.layer.activation.linear
        linear[:n] += forward.cotangent[0] @ x.sum(1) + slope * (omega[now].T.flatten() @ flat)
        pairs[:n, :n] += (y * gains[now].T[..., None]).flatten(0, 1).T @ flat
    return PairForm(
        question=forward.question,
        borders=borders,
        baseline=baseline,
        constant=float(constant + forward.bias),
        linear=linear.roll(-1),
        interactions=((pairs + pairs.T) / 2).roll((-1, -1), (0, 1)),
        logit=forward.logit,
        held=forward.held(pairs=True),
    )


def _baseline(inputs: Tensor, given: Tensor | None) -> Tensor:
    if given is None:
        return torch.zeros_like(inputs)
    if given.shape not in (inputs.shape, inputs.shape[1:]) or not bool(torch.isfinite(given).all()):
        shapes = " or ".join(str(tuple(shape)) for shape in (inputs.shape, inputs.shape[1:]))
        raise InputError(f"a baseline is finite numbers {shapes} for this input, not {tuple(given.shape)}")
    return given.detach().to(inputs).expand_as(inputs)


def _launched(forward: Forward, baseline: Tensor, borders: tuple[int, ...], now: slice) -> Tensor:
    """The encoder's output in this chunk by waves, (features, time, waves begun): bias first, then the segments."""
    encoder = forward.model.encoder
    encoded = encoder.weight @ (forward.inputs[now] - baseline[now]).T
    begun = sum(border < now.stop for border in borders[:-1])
    x = encoded.new_zeros(*encoded.shape, 1 + begun)
    x[..., 0] = encoder(baseline[now]).T
    for g in range(begun):
        a, b = max(borders[g], now.start) - now.start, max(borders[g + 1] - now.start, 0)
        x[:, a:b, 1 + g] = encoded[:, a:b]
    return x


def _normed(block: Block, x: Tensor, now: slice) -> Tensor:
    """LayerNorm with its scale held; its bias is launched with the bias wave."""
    if block.scale is None:
        return x
    norm: Any = block.layer.norm
    u = (x - x.mean(0)) * (norm.weight[:, None] * block.scale[now, 0])[..., None]
    u[..., 0] += norm.bias[:, None]
    return u


def _passed(block: Block, y: Tensor, now: slice) -> Tensor:
    """What an earlier block adds to each wave, its gate and gain held."""
    g = y * block.gate[now].T[..., None]
    if block.mixing is None:
        return g
    weight, bias = block.mixing
    mixed = (weight @ g.flatten(1)).view_as(g)
    mixed[..., 0] += bias[:, None]
    return mixed if block.gain is None else mixed * block.gain[now].T[..., None]
