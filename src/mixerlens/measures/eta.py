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
    """ratio, low, centred, high: (heads, tokens) float64, NaN for a row that is padding or has no predecessor."""

    ratio: Tensor = field(repr=False)
    low: Tensor = field(repr=False)
    centred: Tensor = field(repr=False)
    high: Tensor = field(repr=False)
    gauge: str


def has_eta_ratio(d: CoefficientDynamics) -> bool:
    """A causal mixer with an exponential readout divided by its row sum: softmax in all its forms."""
    return isinstance(d.normalizer, RowSum) and d.readout.exponential and d.support.causal and not d.dtype.is_complex


def eta_ratio(d: CoefficientDynamics) -> EtaRatio:
    """The ratios of one sequence (batch 1), streamed over blocks of rows: memory O(rows x tokens)."""
    free = isinstance(d.readout, Exp) and not isinstance(d.normalizer, RowSumSink)
    scores = replace(d, readout=Identity(), normalizer=NoNormalizer()).to(torch.float64)
    out = torch.full((4, d.heads, d.time), torch.nan, dtype=torch.float64, device=d.device)
    sink = d.normalizer.sink.to(torch.float64).expand(d.heads) if isinstance(d.normalizer, RowSumSink) else None
    before: tuple[Tensor, Tensor, Tensor] | None = None  # the previous block's last row: log phi, support, log eta
    for block in RowTiles(scores):
        heads = slice(block.heads.start, block.heads.stop)
        wide = (block.first, d.time - block.last)
        log_phi = torch.nn.functional.pad(d.readout.log(block.coefficients[0]), wide)
        seen = torch.nn.functional.pad(block.mask[0], wide).expand(log_phi.shape)
        log_eta = torch.where(seen, log_phi, -torch.inf).logsumexp(-1)
        if sink is not None:
            log_eta = torch.where(seen.any(-1), torch.logaddexp(log_eta, sink[heads, None]), log_eta)
        if block.lo > 0 and before is not None:
            earlier = before
        else:
            earlier = (log_phi[:, :1], torch.zeros_like(seen[:, :1]), torch.full_like(log_eta[:, :1], torch.nan))
        rows = (log_phi, seen, log_eta)
        last = tuple(torch.cat([e, r[:, :-1]], 1) for e, r in zip(earlier, rows, strict=True))
        out[:, heads, block.lo : block.hi] = _ratios(last, rows, free)
        before = (log_phi[:, -1:], seen[:, -1:], log_eta[:, -1:])
    return EtaRatio(out[0], out[1], out[2], out[3], GAUGE if free else NO_GAUGE)


def _ratios(last: tuple[Tensor, ...], here: tuple[Tensor, ...], free: bool) -> Tensor:
    """(4, heads, rows): ratio, low, centred, high of consecutive rows."""
    both = last[1] & here[1]  # keys in the support of both rows
    log_ratio = torch.where(both.any(-1), last[2] - here[2], torch.nan)
    if not free:
        return log_ratio.exp().expand(4, *log_ratio.shape)
    # an origin on key m multiplies the ratio by exp(score_im - score_{i-1,m}); where no origin is moved, by 1
    shift = torch.where(both, here[0] - last[0], 0.0)
    count = both.sum(-1).clamp(min=1)
    moved = torch.stack([torch.zeros_like(log_ratio), shift.amin(-1).clamp(max=0), shift.sum(-1) / count,
                         shift.amax(-1).clamp(min=0)])  # fmt: skip
    return (log_ratio + moved).exp()
