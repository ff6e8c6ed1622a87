"""Parts that several principles look at: one run of tokens in float64, the matrices A_t, the impulses a row reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.measures.parts import dynamics_of, one_sequence
from mixerlens.normalizer import NoNormalizer
from mixerlens.readout import Identity
from mixerlens.shapes import spread

MATRICES = 1 << 22  # numbers of the dense A_t that are held at once
NO_NUMBER, NO_SHARE = "no number", "no share"  # what is said where no head has one


def one_run(mixer: Any, sequence: int = 0) -> CoefficientDynamics:
    """The mixer in float64, on the CPU, on one sequence of its batch, and there on the longest run of one segment.

    Padding and packed neighbours share nothing with that run, so it is a mixer of its own. Raises InputError for what
    is no mixer, a sequence that is not there, or one of padding alone.
    """
    d = one_sequence(dynamics_of(mixer), sequence)
    if d.support.segments is not None:
        values, counts = torch.unique_consecutive(d.support.segments[0].expand(d.time), return_counts=True)
        sizes = torch.where(values >= 0, counts, 0)
        if not bool(sizes.any()):
            raise InputError(f"sequence {sequence} holds padding only: there is nothing to measure")
        run = int(sizes.argmax())
        start = int(counts[:run].sum())
        d = d.select_tokens(start, start + int(counts[run]))
        d = replace(d, support=replace(d.support, segments=None))
    return d.to(torch.float64, "cpu")


def last_tokens(d: CoefficientDynamics, count: int) -> CoefficientDynamics:
    """The last ``count`` tokens as a mixer of their own; all of them where there are fewer."""
    return d if count >= d.time else d.select_tokens(d.time - count, d.time)


def spaced(first: int, stop: int, most: int) -> list[int]:
    """At most ``most`` evenly spaced numbers of first .. stop - 1, both ends among them."""
    count = stop - first
    if count <= most:
        return list(range(first, stop))
    return sorted({first + round(x) for x in torch.linspace(0, count - 1, most, dtype=torch.float64).tolist()})


def matrices(d: CoefficientDynamics, tokens: Sequence[int]) -> Tensor:
    """A_t of the given tokens as dense matrices: (heads, tokens, dim, dim)."""
    unit = torch.eye(d.dim, dtype=d.dtype, device=d.device).expand(1, d.heads, d.dim, d.dim)
    steps = [d.evolution.step(unit, t).expand(1, d.heads, d.dim, d.dim)[0] for t in tokens]
    return torch.stack(steps, 1) if steps else unit[0, :, None][:, :0]


def keys(d: CoefficientDynamics) -> Tensor:
    """b_j k_j as they enter: (heads, time, dim)."""
    key = spread(d.key, d.heads, 2).expand(1, d.time, d.heads, d.dim).to(d.dtype)
    scaled = key if d.scaling is None else d.scaling.to(d.dtype).unsqueeze(-1) * key
    return scaled[0].transpose(0, 1)


def queries(d: CoefficientDynamics) -> Tensor:
    """q_i: (heads, time, dim)."""
    return spread(d.query, d.heads, 2).expand(1, d.time, d.heads, d.dim).to(d.dtype)[0].transpose(0, 1)


def impulses(d: CoefficientDynamics) -> Tensor:
    """u_{i,j} of every token j as the last row i = time - 1 reads it: (heads, time, dim), chunk by chunk."""
    parts: list[Tensor] = []
    for lo in range(0, d.time, d.evolution.chunk):
        f = d.factors(lo, min(lo + d.evolution.chunk, d.time))
        own = f.inject.to(d.dtype).expand(1, d.heads, -1, -1).mT
        parts = [*(f.carry.forward(x).to(d.dtype) for x in parts), own]
    return torch.cat(parts, -1)[0].mT


def scores(d: CoefficientDynamics, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """q_i^T u_{i,j} of some rows before phi and eta, (heads, rows, time), and the support of these, (rows, time)."""
    plain = replace(d, readout=Identity(), normalizer=NoNormalizer())
    mask = torch.cat([d.support.mask((i, i + 1), (0, d.time), d.device)[0, 0] for i in rows])
    return plain.operator().block(list(rows), slice(None))[0], mask


def columns(d: CoefficientDynamics, row: int) -> list[int]:
    """The tokens in the support of a row."""
    mask = d.support.mask((row, row + 1), (0, d.time), d.device)
    return mask[0, 0, 0].nonzero().flatten().tolist()


def spread_text(values: Tensor, digits: int = 3, least: float = 0.0) -> str:
    """Numbers of all heads in a few characters: one, or the smallest to the largest; those up to ``least`` are 0."""
    values = torch.where(values.abs() <= least, 0, values)
    known = values[~values.isnan()].to(torch.float64)
    if not known.numel():
        return NO_NUMBER
    low, high = float(known.min()), float(known.max())
    one, other = f"{low:.{digits}g}", f"{high:.{digits}g}"
    return one if one == other else f"{one} to {other}"


def percent(shares: Tensor) -> str:
    """Shares of all heads in whole percents: one, or the smallest to the largest."""
    known = shares[~shares.isnan()]
    if not known.numel():
        return NO_SHARE
    low, high = (f"{100 * float(x):.0f}" for x in (known.min(), known.max()))
    return f"{low} %" if low == high else f"{low} to {high} %"
