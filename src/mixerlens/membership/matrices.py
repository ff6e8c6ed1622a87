"""Coefficients that are matrices over heads and channels: a member an entry, if the whole has a state of fixed size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixerlens.membership.probe import Probe
from mixerlens.membership.ranks import crossing
from mixerlens.membership.realise import decision
from mixerlens.membership.record import Finding

MOST = 1024  # calls


def matrix_valued(probe: Probe, findings: list[Finding]) -> dict[str, Any]:
    """The verdict for y_i = sum_j M_ij v_j with M_ij over all heads x value_dim channels, of the first sequence.

    A state of N numbers for the whole makes each entry of M a causal linear recurrence: a member of its own, for
    each pair of channels, or for each mode after diagonalisation.
    """
    size = probe.heads * probe.width
    if probe.time * size > MOST:
        why = f"its coefficients are matrices, {probe.time * size} calls away and at most {MOST} are made"
        return decision("undecided", f"{why}: give fewer tokens or a smaller value_dim")
    matrix = _matrices(probe, size)
    sizes = matrix.abs().amax((0, 3, 4))
    causal = bool(sizes.triu(1).max() <= probe.exact * sizes.max())
    growth = crossing(matrix, None, probe.ranks)
    finite = causal and growth.plateau and growth.gap <= probe.ranks.gap
    if finite:
        told = f"one state of {growth.rank} numbers carries all {size} channels"
    else:
        told = "no state of fixed size was seen" if causal else "later tokens are read"
    bar = f"no growth from half to all, at most {growth.cap // 2}, gap <= {probe.ranks.gap:g}"
    findings.append(Finding("state rank", "proves" if finite else "note", told, growth.numbers, bar))
    what = f"its coefficients are {size} x {size} matrices, and {told}"
    if not finite:
        return decision("undecided", f"{what}: ask about one entry or one mode at a time")
    why = f"{what}: a member per mode, or per entry of the matrices, one system each"
    return decision("member by lifting", why, "identity", growth.rank)


def _matrices(probe: Probe, size: int) -> Tensor:
    """(1, time, time, size, size), a call a token and channel."""
    columns = []
    for j in range(probe.time):
        for c in range(size):
            value = torch.zeros(probe.batch, probe.time, probe.heads * probe.width).to(probe.normal(0))
            value[:, j, c] = 1
            columns.append(probe(value.unflatten(-1, (probe.heads, probe.width)))[0].flatten(1).cpu())
    columns = torch.stack(columns, -1).unflatten(-1, (probe.time, size))  # (time, size, time, size)
    return columns.permute(0, 2, 1, 3)[None].to(torch.complex128 if columns.is_complex() else torch.float64)
