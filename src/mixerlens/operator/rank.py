"""The state rank: how many numbers a causal recurrence must carry.

For a fixed sequence alpha has an exact causal linear recurrence with N numbers a value channel if and only if
max_t rank alpha[t:, :t] <= N. Measurable rank is capped at T / 2.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.operator.apply import normalizer_rows
from mixerlens.operator.memory import require
from mixerlens.operator.scan import halves
from mixerlens.operator.tiles import RowTiles
from mixerlens.readout import RealPart


def cut_positions(time: int, cuts: int | str | Iterable[int]) -> list[int]:
    """The cuts t asked for: a number of evenly spaced ones (the middle always among them), "all", or a list."""
    if cuts == "all":
        return list(range(1, time))
    if isinstance(cuts, str):
        raise InputError(f'cuts is {cuts!r}: give a number, "all", or a list of tokens')
    if isinstance(cuts, int):
        if cuts < 1:
            raise InputError(f"cuts is {cuts}: at least one cut is needed")
        even = {round(x) for x in torch.linspace(1, time - 1, cuts + 2)[1:-1].tolist()} if time > 2 else set()
        return sorted({t for t in even | {time // 2} if 0 < t < time})
    chosen = sorted(set(cuts))
    if any(not 0 < t < time for t in chosen):
        raise InputError(f"cuts must lie between 1 and {time - 1}, got {chosen}")
    return chosen


def singular_values(mixer: Mixer, cuts: Iterable[int]) -> list[Tensor]:
    """Singular values of alpha[t:, :t] for each cut t, largest first: each (batch, heads, up to min(t, T - t))."""
    if not mixer.causal:
        raise UnsupportedError("state rank needs a causal mixer: a bidirectional one has no state between tokens")
    return [_factored(mixer, t) for t in cuts] if mixer.recurrent else _dense(mixer, list(cuts))


def _factored(mixer: Mixer, cut: int) -> Tensor:
    """alpha[cut:, :cut] = emit inject^T has at most dim singular values: two thin QRs and a small SVD."""
    halved = [(*_halves(d, cut), weight) for d, weight in mixer.terms]
    emit = torch.cat([weigh(e, weight, cut) for e, _, weight in halved], -1)
    inject = torch.cat([i for _, i, _ in halved], -1)
    if min(emit.shape[-2], inject.shape[-2]) <= emit.shape[-1]:
        return torch.linalg.svdvals(emit @ inject.mT)
    return torch.linalg.svdvals(torch.linalg.qr(emit).R @ torch.linalg.qr(inject).R.mT)


def _halves(d: CoefficientDynamics, cut: int) -> tuple[Tensor, Tensor]:
    """emit, inject with alpha[cut:, :cut] = emit @ inject^T: the readout and eta are in emit."""
    emit, inject = halves(d, cut)
    if isinstance(d.readout, RealPart) and d.dtype.is_complex:
        scale = d.readout.scale
        emit = scale * torch.cat([emit.real, -emit.imag], -1)  # Re(a b) over the reals
        inject = torch.cat([inject.real, inject.imag], -1)
    elif isinstance(d.readout, RealPart):
        emit = d.readout.scale * emit
    return emit / normalizer_rows(d)[:, :, cut:], inject


def _dense(d: Mixer, cuts: list[int]) -> list[Tensor]:
    """A readout without finite state: the blocks themselves, one head at a time."""
    require(
        "state_rank of a mixer without finite state", d.batch, d.time, d.time,
        dtype=d.dtype, copies=2, instead="use a shorter sequence",
    )  # fmt: skip
    by_head: list[list[Tensor]] = []
    for head in range(d.heads):
        part = d.select_heads([head])
        alpha = torch.zeros(d.batch, 1, d.time, d.time, dtype=part.coefficient_dtype)
        alpha = alpha.to(d.device)
        for b in RowTiles(part):
            alpha[:, :, b.lo : b.hi, b.first : b.last] = b.coefficients
        by_head.append([torch.linalg.svdvals(alpha[:, :, t:, :t]) for t in cuts])
    return [torch.cat(values, 1) for values in zip(*by_head, strict=True)]


def state_rank(d: Mixer, tol: float, cuts: int | str | Iterable[int]) -> Tensor:
    """max over the cuts of the number of singular values above tol times the block's largest: (batch, heads) int.

    A lower bound of the true maximum unless every cut is taken.
    """
    if not 0 <= tol < 1:
        raise InputError(f"tol is {tol}: it is relative to a block's largest singular value, so 0 <= tol < 1")
    rank = torch.zeros(d.batch, d.heads, dtype=torch.long, device=d.device)
    for values in singular_values(d, cut_positions(d.time, cuts)):
        above = (values > tol * values[..., :1]) & (values > 0)
        rank = torch.maximum(rank, above.sum(-1))
    return rank
