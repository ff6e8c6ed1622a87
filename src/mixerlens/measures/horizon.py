"""How far back a mixer reads: the distance, the reach and the half-life of its absolute mass."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.measures.parts import dynamics_of, one_sequence
from mixerlens.measures.record import QUANTILES, Record, quantiles
from mixerlens.measures.spectrum import Spectrum, spectrum
from mixerlens.operator.tiles import RowTiles

LAGS_IN_JSON = 160


@dataclass(frozen=True, eq=False)
class Horizon(Record):
    """Distances are in tokens, lag i - j (|i - j| for a bidirectional mixer), weights |alpha_ij|.

    mean_distance: of each row, (heads, tokens); NaN where a row has no mass. mean: over rows, (heads,).
    mass_by_lag: sum over rows, (heads, lags). cumulative: its share up to each lag, (heads, lags).
    effective_context, half_life_measured: smallest lag within which 90 % and 50 % of the mass lie, (heads,).
    half_life_spectrum: ln(1/2) / ln|lambda| of the slowest eigenvalue, (heads, tokens | 1); infinite where
        |lambda| >= 1, NaN where there is none. For softmax it follows the gauge of the eta ratio.
    uniform: ``cumulative`` of a mixer that weighs all its support alike, (lags,): what the finite length alone gives.
    """

    mean_distance: Tensor = field(repr=False)
    mean: Tensor
    mass_by_lag: Tensor = field(repr=False)
    cumulative: Tensor = field(repr=False)
    effective_context: Tensor
    half_life_measured: Tensor
    half_life_spectrum: Tensor = field(repr=False)
    uniform: Tensor = field(repr=False)
    uniform_mean: float
    causal: bool
    levels: tuple[float, ...] = QUANTILES

    labels: ClassVar[dict[str, str]] = {
        "mean": "Mean over rows of the |alpha|-weighted mean distance of a row.",
        "mean_distance_quantiles": "Quantiles over rows of the |alpha|-weighted mean distance of a row.",
        "effective_context": "Smallest lag within which 90 % of the absolute mass lies.",
        "half_life_measured": "Smallest lag within which 50 % of the absolute mass lies.",
        "half_life_spectrum_quantiles": "Quantiles over tokens of ln(1/2) / ln|slowest eigenvalue|; null: never.",
        "curve": "Share of the absolute mass up to a lag, and the same for uniform weights.",
        "uniform_mean": "Mean distance of uniform weights over the same support.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(
        ["mean", "mean_distance_quantiles", "effective_context", "half_life_measured", "half_life_spectrum_quantiles",
         "uniform_mean"], "tokens",
    )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Numbers a head; curves at most 160 lags, evenly spaced in log(1 + lag), exact at each."""
        lags = curve_lags(self.cumulative.shape[-1], LAGS_IN_JSON)
        return self._described(
            {
                "mean": self.mean,
                "effective_context": self.effective_context,
                "half_life_measured": self.half_life_measured,
                "levels": self.levels,
                "half_life_spectrum_quantiles": quantiles(self.half_life_spectrum, self.levels),
                "mean_distance_quantiles": quantiles(self.mean_distance, self.levels),
                "uniform_mean": self.uniform_mean,
                "curve": {"lag": lags, "share": self.cumulative[:, lags], "uniform": self.uniform[lags]},
            }
        )


def horizon(mixer: Any, *, sequence: int = 0, of: Spectrum | None = None) -> Horizon:
    """How far back each head reads, from one pass over |alpha| of one sequence.

    of: the mixer's spectrum, if it is at hand already.

    Raises InputError for something that is no mixer or a sequence that is not there.
    """
    d = one_sequence(dynamics_of(mixer), sequence)
    moment, mass, by_lag, uniform, uniform_moment = _one_pass(d)
    distance = moment / mass  # 0 / 0 is NaN: a row without mass
    total = by_lag.sum(-1, keepdim=True)
    cumulative = (by_lag.cumsum(-1) / total).clamp(max=1)
    log_slowest = (of or spectrum(d, keep=1)).log_slowest
    return Horizon(
        mean_distance=distance,
        mean=distance.nanmean(-1),
        mass_by_lag=by_lag,
        cumulative=cumulative,
        effective_context=_first_reaching(by_lag, 0.9),
        half_life_measured=_first_reaching(by_lag, 0.5),
        half_life_spectrum=half_life(log_slowest),
        uniform=(uniform.cumsum(-1) / uniform.sum()).clamp(max=1),
        uniform_mean=float(uniform_moment),
        causal=d.support.causal,
    )


def half_life(log_radius: Tensor) -> Tensor:
    """ln(1/2) / ln r in tokens: infinite for r >= 1, 0 for r = 0, NaN kept."""
    return torch.where(log_radius >= 0, torch.inf, math.log(0.5) / log_radius)


def curve_lags(count: int, most: int) -> list[int]:
    """At most ``most`` of the lags 0 .. count - 1, evenly spaced in log(1 + lag), both ends among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(math.expm1(math.log(count) * k / (most - 1))) for k in range(most)})


def _one_pass(d: CoefficientDynamics) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Moment and mass of each row (heads, tokens), mass by lag (heads, tokens); for uniform weights mass by lag
    (tokens,) and mean distance. Sums within a block of rows run in the mixer's dtype, those over blocks in float64.
    """
    shape = (d.heads, d.time)
    moment, mass, by_lag = (torch.zeros(shape, dtype=torch.float64, device=d.device) for _ in range(3))
    uniform = torch.zeros(d.time, dtype=torch.float64, device=d.device)
    uniform_moment, rows = torch.zeros((), dtype=torch.float64, device=d.device), 0
    for block in RowTiles(d):
        heads = slice(block.heads.start, block.heads.stop)
        size = (block.coefficients.abs() * block.mask)[0]
        lags = block.lags().abs()
        moment[heads, block.lo : block.hi] = (size * lags).sum(-1).to(torch.float64)
        mass[heads, block.lo : block.hi] = size.sum(-1).to(torch.float64)
        _add_by_lag(by_lag[heads], size, block.lo - block.first)
        if block.heads.start == 0:
            seen = block.mask[0, 0].to(torch.float64)
            count = seen.sum(-1, keepdim=True)
            alike = seen / count.clamp(min=1)
            _add_by_lag(uniform[None], alike[None], block.lo - block.first)
            uniform_moment += (alike * lags).sum()
            rows += int((count > 0).sum())
    return moment, mass, by_lag, uniform, uniform_moment / max(1, rows)


def _add_by_lag(total: Tensor, size: Tensor, offset: int) -> None:
    """Add the diagonals of size (heads, rows, columns) to total (heads, lags); entry (r, c) has lag |offset + r - c|.

    With the columns reversed and row r moved right by r (a view of the rows padded by their number), a lag is a column.
    """
    rows, columns = size.shape[-2:]
    skewed = torch.nn.functional.pad(size.flip(-1), (0, rows)).flatten(-2)[..., :-rows]
    by_lag = skewed.unflatten(-1, (rows, columns + rows - 1)).sum(-2).to(total.dtype)
    least = offset - columns + 1  # the lag of the first column
    total[:, : least + by_lag.shape[-1]] += by_lag[:, -least:]
    if least < 0:
        total[:, 1 : 1 - least] += by_lag[:, :-least].flip(-1)


def _first_reaching(by_lag: Tensor, share: float) -> Tensor:
    """Smallest lag with at least ``share`` of the mass at or before it: (heads,) float64, NaN without mass.

    The sum runs from the far end, and a share is reached when what lies beyond is at most the rest: rounding in the
    total cannot push the answer to the last lag.
    """
    beyond = by_lag.flip(-1).cumsum(-1).flip(-1) - by_lag  # mass at larger lags
    total = by_lag.sum(-1, keepdim=True)
    reached = beyond <= (1 - share) * total * (1 + 1e-12)
    first = reached.to(torch.uint8).argmax(-1).to(torch.float64)
    return torch.where(total[..., 0] > 0, first, torch.nan)
