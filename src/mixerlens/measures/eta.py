"""The ratio eta_{i-1} / eta_i of a row-normalised mixer, and the range its gauge freedom spans.

Folding the normaliser into the evolution, A_i -> (eta_{i-1} / eta_i) A_i and b_i -> b_i / eta_i, leaves alpha as it is
(arXiv 2405.15731), so these ratios appear as eigenvalues. With phi = exp they are a convention: adding one constant
vector c to all keys (in the frame in which they are compared, after rotary positions) adds q_i.c to every score of row
i, leaves alpha unchanged, and multiplies the ratio by exp((q_{i-1} - q_i).c). Over all c that is every positive number
wherever q_{i-1} != q_i.

What is computed, causally (row i sums the keys of its own support, none later):

- ratio: the scores as computed, c = 0.
- low, high: extremes of the ratio over the shifts that put the origin on a key that both rows see, c = -k_m, and
  c = 0. The log ratio is linear in c, so these are the extremes over every weighted mean of those keys and 0 as well.
  With the origin on k_m key m scores 0 in both rows, hence eta_i = 1 / alpha_im and the ratio is
  alpha_im / alpha_{i-1,m}: an end of this range is a fact about coefficients, and no future key enters.
- centred: the origin on the mean of the keys that both rows see, the geometric mean of those quotients.

A soft cap or an attention sink breaks the freedom (shifted keys change alpha): the range is then the ratio alone.

All of them are kept as logarithms, of which floats have room: scores of 1e5 make ratios of e^100000. A row's log eta is
carried as its largest log phi and the rest, so that the difference of two rows keeps its digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.normalizer import NoNormalizer, RowSum, RowSumSink
from mixerlens.operator.tiles import RowTiles
from mixerlens.readout import Exp, Identity

GAUGE = "origin on any weighted mean of 0 and the keys that both rows see; over all origins the range is (0, infinity)"
NO_GAUGE = "none: with a soft cap or a sink, shifted keys change alpha, so the ratio is unique"


@dataclass(frozen=True, eq=False)
class EtaRatio:
    """Natural logarithms, (heads, tokens) float64, NaN for a row that is padding or has no predecessor.

    ratio, low, centred, high: what they are logarithms of, infinite or 0 where floats do not reach.
    """

    log_ratio: Tensor = field(repr=False)
    log_low: Tensor = field(repr=False)
    log_centred: Tensor = field(repr=False)
    log_high: Tensor = field(repr=False)
    gauge: str

    @property
    def ratio(self) -> Tensor:
        return self.log_ratio.exp()

    @property
    def low(self) -> Tensor:
        return self.log_low.exp()

    @property
    def centred(self) -> Tensor:
        return self.log_centred.exp()

    @property
    def high(self) -> Tensor:
        return self.log_high.exp()


def has_eta_ratio(d: CoefficientDynamics) -> bool:
    """A causal mixer with an exponential readout divided by its row sum: softmax in all its forms."""
    return isinstance(d.normalizer, RowSum) and d.readout.exponential and d.support.causal and not d.dtype.is_complex


def eta_ratio(d: CoefficientDynamics) -> EtaRatio:
    """The ratios of one sequence (batch 1), streamed over blocks of rows: memory O(rows x tokens)."""
    free = isinstance(d.readout, Exp) and not isinstance(d.normalizer, RowSumSink)
    scores = replace(d, readout=Identity(), normalizer=NoNormalizer()).to(torch.float64)
    out = torch.full((4, d.heads, d.time), torch.nan, dtype=torch.float64, device=d.device)
    sink = d.normalizer.sink.to(torch.float64).expand(d.heads) if isinstance(d.normalizer, RowSumSink) else None
    before: tuple[Tensor, ...] | None = None  # the previous block's last row: log phi, support, peak, rest
    for block in RowTiles(scores):
        heads = slice(block.heads.start, block.heads.stop)
        wide = (block.first, d.time - block.last)
        log_phi = torch.nn.functional.pad(d.readout.log(block.coefficients[0]), wide)
        seen = torch.nn.functional.pad(block.mask[0], wide).expand(log_phi.shape)
        rows = (log_phi, seen, *_log_eta(log_phi, seen, None if sink is None else sink[heads]))
        none = (log_phi[:, :1], torch.zeros_like(seen[:, :1]), rows[2][:, :1], rows[3][:, :1])  # sees nothing
        earlier = before if block.lo > 0 and before is not None else none
        last = tuple(torch.cat([e, r[:, :-1]], 1) for e, r in zip(earlier, rows, strict=True))
        out[:, heads, block.lo : block.hi] = _log_ratios(last, rows, free)
        before = tuple(row[:, -1:] for row in rows)
    return EtaRatio(out[0], out[1], out[2], out[3], GAUGE if free else NO_GAUGE)


def _log_eta(log_phi: Tensor, seen: Tensor, sink: Tensor | None) -> tuple[Tensor, Tensor]:
    """The largest log phi of each row, and log eta less that: (heads, rows); log_phi (heads, rows, tokens)."""
    live = torch.where(seen, log_phi, -torch.inf)
    peak = live.amax(-1)
    if sink is not None:
        peak = torch.maximum(peak, sink[:, None])
    peak = torch.where(seen.any(-1), peak, 0)
    total = (live - peak[..., None]).exp().sum(-1)
    return peak, (total if sink is None else total + (sink[:, None] - peak).exp()).log()


def _log_ratios(last: tuple[Tensor, ...], here: tuple[Tensor, ...], free: bool) -> Tensor:
    """(4, heads, rows): logarithms of ratio, low, centred, high of consecutive rows."""
    both = last[1] & here[1]  # keys in the support of both rows
    rest = torch.where(both.any(-1), last[3] - here[3], torch.nan)
    log_ratio = rest + (last[2] - here[2])
    if not free:
        return log_ratio.expand(4, *log_ratio.shape)
    # an origin on key m takes score_im off the peak of row i, and score_{i-1,m} off that of row i - 1
    own = (last[2][..., None] - last[0]) - (here[2][..., None] - here[0])
    count = both.sum(-1).clamp(min=1)
    low, high = (torch.where(both, own, x) for x in (torch.inf, -torch.inf))
    centred = torch.where(both, own, 0).sum(-1) / count
    return torch.stack(
        [log_ratio, torch.minimum(low.amin(-1) + rest, log_ratio), centred + rest,
         torch.maximum(high.amax(-1) + rest, log_ratio)]
    )  # fmt: skip
