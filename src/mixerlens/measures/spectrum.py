"""The spectrum of a mixer: the eigenvalues of A_t, a head and token at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.measures.eta import EtaRatio, eta_ratio, has_eta_ratio
from mixerlens.measures.parts import dynamics_of, head_groups, one_sequence
from mixerlens.measures.record import QUANTILES, Record, quantiles

AS_IS = "eigenvalues of A_t; a repeated eigenvalue is counted once"
FOLDED = (
    "eigenvalues of (eta_{i-1} / eta_i) A_i, the normaliser folded into the evolution, with the scores as computed. "
    "The ratio is a convention: see the gauge range"
)
BIDIRECTIONAL = "a bidirectional mixer has no recurrence over tokens: A_t = I, its only eigenvalue is 1"


@dataclass(frozen=True, eq=False)
class Spectrum(Record):
    """Eigenvalues and what was computed from all of them.

    kind: "evolution" (of A_t itself) or "eta_ratio" (a row-normalised readout such as softmax, the normaliser folded
        in: (eta_{i-1} / eta_i) A_i).
    eigenvalues: complex (heads, kept tokens | 1, modes); ``tokens`` numbers the kept ones, (kept,). ``sampled`` says
        that this is a subset of the tokens; every other field is computed on all of them.
    slowest: largest |eigenvalue| of each token, (heads, tokens | 1); NaN where a row has no predecessor or is padding.
    radius_quantiles: of |eigenvalue| over tokens and modes at ``levels``, (heads, levels).
    log_slowest, log_radius_quantiles: natural logarithms of both. With a ratio folded in these are exact where the
        numbers themselves are infinite or 0 because floats do not reach.
    ratio, gauge_low, gauge_high, gauge_centred: (heads, tokens), for "eta_ratio" only; see ``measures.eta``.
    """

    kind: str
    eigenvalues: Tensor = field(repr=False)
    tokens: Tensor = field(repr=False)
    sampled: bool
    slowest: Tensor = field(repr=False)
    radius_quantiles: Tensor
    log_slowest: Tensor = field(repr=False)
    log_radius_quantiles: Tensor = field(repr=False)
    convention: str
    eta: EtaRatio | None = None
    levels: tuple[float, ...] = QUANTILES

    labels: ClassVar[dict[str, str]] = {
        "eigenvalues": "Factors by which the state's directions are multiplied at one token.",
        "radius_quantiles": "Quantiles of |eigenvalue| over tokens and modes: 1 keeps, 0 forgets at once.",
        "slowest_quantiles": "Quantiles over tokens of the largest |eigenvalue|.",
        "ratio_quantiles": "Quantiles over tokens of eta_{i-1} / eta_i with the scores as computed.",
        "gauge_quantiles": "The same for the ends of the gauge range, and for keys centred on the mean of those seen.",
        **{
            f"log_{name}_quantiles": f"Natural logarithms of {name}_quantiles, which are null, or 0, where they are "
            "beyond the range of floats."
            for name in ("radius", "slowest", "ratio", "gauge")
        },
    }
    units: ClassVar[dict[str, str]] = {
        "eigenvalues": "per token, [real, imaginary]",
        "radius_quantiles": "per token",
        "slowest_quantiles": "per token",
        "ratio_quantiles": "per token",
        "gauge_quantiles": "per token",
        **dict.fromkeys((f"log_{name}_quantiles" for name in ("radius", "slowest", "ratio", "gauge")), "per token"),
    }

    @property
    def ratio(self) -> Tensor | None:
        return None if self.eta is None else self.eta.ratio

    @property
    def gauge_low(self) -> Tensor | None:
        return None if self.eta is None else self.eta.low

    @property
    def gauge_high(self) -> Tensor | None:
        return None if self.eta is None else self.eta.high

    @property
    def gauge_centred(self) -> Tensor | None:
        return None if self.eta is None else self.eta.centred

    def to_json(self, eigenvalues: bool = False) -> dict[str, Any]:
        """Quantiles a head, with a ratio folded in their logarithms too; the kept eigenvalues if asked for."""
        numbers: dict[str, Any] = {
            "kind": self.kind,
            "convention": self.convention,
            "levels": self.levels,
            "radius_quantiles": self.radius_quantiles,
            "slowest_quantiles": quantiles(self.slowest, self.levels),
        }
        if self.eta is not None:
            ratio = quantiles(self.eta.log_ratio, self.levels)
            ends = {"low": self.eta.log_low, "centred": self.eta.log_centred, "high": self.eta.log_high}
            gauge = {name: quantiles(x, self.levels) for name, x in ends.items()}
            numbers["ratio_quantiles"] = ratio.exp()
            numbers["gauge_quantiles"] = {name: x.exp() for name, x in gauge.items()}
            numbers["log_radius_quantiles"] = self.log_radius_quantiles
            numbers["log_slowest_quantiles"] = quantiles(self.log_slowest, self.levels)
            numbers["log_ratio_quantiles"], numbers["log_gauge_quantiles"] = ratio, gauge
            numbers["gauge"] = self.eta.gauge
        if eigenvalues:
            numbers |= {"tokens": self.tokens, "sampled": self.sampled, "eigenvalues": self.eigenvalues}
        return self._described(numbers)


def spectrum(mixer: Any, *, sequence: int = 0, keep: int | None = 128) -> Spectrum:
    """Eigenvalues of A_t, exact for every kind of evolution; for softmax with the ratio of normalisers folded in.

    keep: how many evenly spaced tokens to store eigenvalues of (None: all). Quantiles are over all tokens.

    Raises InputError for something that is no mixer or a sequence that is not there.
    """
    d = one_sequence(dynamics_of(mixer), sequence)
    eta = eta_ratio(d) if has_eta_ratio(d) else None
    alive = _tokens_that_count(d)
    groups = head_groups(d.heads, 4 * d.time * d.dim)
    parts = [_of_heads(d, group, None if eta is None else eta.log_ratio[group], alive, keep) for group in groups]
    tokens, sampled = parts[0][1:3]
    radii, logs = ([torch.cat(part) for part in zip(*(p[k] for p in parts), strict=True)] for k in (3, 4))
    bidirectional = not d.support.causal
    return Spectrum(
        kind="evolution" if eta is None else "eta_ratio",
        eigenvalues=torch.cat([p[0] for p in parts]),
        tokens=tokens,
        sampled=sampled,
        slowest=radii[0],
        radius_quantiles=radii[1],
        log_slowest=logs[0],
        log_radius_quantiles=logs[1],
        convention=BIDIRECTIONAL if bidirectional else AS_IS if eta is None else FOLDED,
        eta=eta,
    )


def _of_heads(
    d: CoefficientDynamics, group: list[int], log_ratio: Tensor | None, alive: Tensor, keep: int | None
) -> tuple[Tensor, Tensor, bool, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Eigenvalues kept, kept tokens, whether they are a subset; slowest radius and quantiles, and their logarithms."""
    values = d.evolution.take_heads(group, d.heads).eigenvalues()
    values = values[0].transpose(0, 1)  # (heads | 1, tokens | 1, modes)
    values = values.expand(len(group), -1, -1)
    radius = values.abs()
    log_radius = radius.log()
    if log_ratio is not None:
        log_radius = log_ratio[..., None] + log_radius
        radius, values = log_radius.exp(), _times(log_ratio.exp()[..., None], values)
    varies = values.shape[1] > 1
    if varies:
        dead = ~alive[None, :, None]
        values = values.masked_fill(dead, complex(torch.nan))
        radius, log_radius = (x.masked_fill(dead, torch.nan) for x in (radius, log_radius))
    known, sampled = torch.zeros(1, dtype=torch.long), False
    if varies:
        known = (alive & ~radius[0].isnan().any(-1)).nonzero().flatten()
        sampled = keep is not None and len(known) > keep
        if sampled:
            known = known[torch.linspace(0, len(known) - 1, keep).round().long()]
    size, log_size = ((x.amax(-1), quantiles(x.flatten(-2))) for x in (radius, log_radius))
    return values[:, known].clone(), known, sampled, size, log_size


def _times(ratio: Tensor, values: Tensor) -> Tensor:
    """ratio values, where a part that is 0 stays 0 also under a ratio beyond the range of floats."""
    parts = torch.view_as_real(values.resolve_conj() if values.is_complex() else values + 0j)
    return torch.view_as_complex(torch.where(parts == 0, 0, ratio[..., None] * parts))


def _tokens_that_count(d: CoefficientDynamics) -> Tensor:
    """bool (tokens,): not padding."""
    if d.support.segments is None:
        return torch.ones(d.time, dtype=torch.bool, device=d.device)
    return (d.support.segments[0] >= 0).expand(d.time)
