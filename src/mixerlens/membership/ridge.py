"""The ridge test: in how many directions of the query two coefficients of a row differ."""

from __future__ import annotations

import contextlib
import itertools
import warnings

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.membership.probe import Probe
from mixerlens.membership.record import Finding

ALLOWED = 2  # u_ij and u_il; 1 for exp, whose gradient is u_ij - u_il
DISTANCES = 6
SAMPLES, ENOUGH = 24, 10  # queries tried at most; usable ones a pair, more than the directions that are counted
HEADS = 4
COUNTED = 1e-6  # singular values above this part of the largest are counted
FLAT, STEEP = 1e-9, 1e-2  # the third singular value: none up to FLAT, there for sure from STEEP on
BATCHED = 32  # tokens from which on all gradients of a query are taken at once: below, that costs more than it saves
AGREE = 1e-4  # of the gradient with a difference quotient


def ridge(probe: Probe, alpha: Tensor) -> Finding:
    """The gradient over q_i of log|alpha_ij| - log|alpha_il| spans at most u_ij and u_il, over all q_i.

    Row i is the last; l is the nearest column, j the six before it. q_i takes the values of other tokens' queries,
    every other token stays as it is, so u_ij and u_il stay too. Where phi has zeros, queries that give one are left
    out.

    More than two directions refute a readout phi(q_i^T u_ij) with the query as given. A nonlinear map of the query
    inside the mixer (a norm, a feature map) widens the span of every pair, so it refutes only if another pair keeps
    to two: the query then enters linearly, and it is the coefficient that knows too many keys. Needs autograd; if it
    disagrees with a difference quotient (something is detached), the test is not run.
    """
    row = probe.time - 1
    heads = range(min(probe.heads, HEADS))
    columns = _nearest(alpha, row)
    if len(columns) < 3:
        return _not_run(f"row {row} has {len(columns)} coefficients that are not zero: 3 are needed")
    queries = _queries(probe, row)
    try:
        slopes, there = _slopes(probe, queries, row, columns, len(heads))
        off = _disagreement(probe, queries, row, columns, slopes, there)
    except (InputError, RuntimeError) as error:
        return _not_run(f"no gradient of y over the query: {str(error).splitlines()[0]}")
    if off > max(AGREE, 20 * probe.precision ** (2 / 3)):
        return _not_run(f"autograd and a difference quotient disagree by {off:.1e}: something is detached inside")
    ranks, thirds, usable = [], [], []
    for pair in range(1, len(columns)):
        use = there[:, :, 0] & there[:, :, pair]  # (queries, heads)
        spans = [slopes[use[:, h], h, pair] - slopes[use[:, h], h, 0] for h in heads]
        values = [torch.linalg.svdvals(span) for span in spans if min(span.shape) > ALLOWED]
        usable.append(min((len(span) for span in spans), default=0))
        if values:
            ranks.append(max(int((v > COUNTED * v[0]).sum()) if v[0] > 0 else 0 for v in values))
            thirds.append(max(float(v[ALLOWED] / v[0]) if v[0] > 0 else 0.0 for v in values))
    if not ranks:
        return _not_run("fewer than three queries or three numbers a query give coefficients that are not zero")
    lags = ", ".join(str(columns[0] - c) for c in columns[1:])
    given = (
        f"row {row}, head {', '.join(map(str, heads))}, column {columns[0]} against the columns {lags} before it, "
        f"{len(slopes)} queries (of a pair usable at least {min(usable)}) of {slopes.shape[-1]} numbers"
    )
    flat = max(FLAT, 1024 * probe.precision)
    bar = f"third singular value: member <= {flat:.0e}; > {STEEP:g} refutes where another pair keeps to {flat:.0e}"
    numbers = {"ranks": ranks, "third singular value": max(thirds), "smallest third": min(thirds)}
    if max(thirds) <= flat:
        told = f"log alpha_ij - log alpha_il varies in at most {max(ranks)} directions of the query"
        return Finding("ridge", "holds", told, numbers, bar, given)
    told = (
        f"the gradient of log alpha_ij - log alpha_il over the query spans {max(ranks)} directions, "
        f"one readout phi(q_i^T u_ij) allows {ALLOWED}"
    )
    if max(thirds) > STEEP and min(thirds) <= flat:
        return Finding("ridge", "refutes", told, numbers, bar, given)
    told += (
        "; for every pair, which a nonlinear map of the query inside the mixer (a norm, a feature map) or a sum of "
        "several members does too"
        if min(thirds) > flat
        else "; but too weakly to tell from rounding"
    )
    return Finding("ridge", "unclear", told, numbers, bar, given)


def _not_run(why: str) -> Finding:
    return Finding("ridge", "not run", why)


def _nearest(alpha: Tensor, row: int) -> list[int]:
    """The nearest columns of a row that are not zero in every head, nearest first."""
    there = (alpha[0, :, row] != 0).any(0).nonzero().flatten().tolist()
    return sorted(there, key=lambda j: abs(row - j))[: DISTANCES + 1]


def _queries(probe: Probe, row: int) -> Tensor:
    """Queries for the row: those of other tokens, then means of two, (queries, batch, ...)."""
    order = probe.tokens(probe.time)
    own = [probe.query[:, t] for t in order[:SAMPLES]]
    mixed = [(probe.query[:, s] + probe.query[:, t]) / 2 for s, t in itertools.pairwise(order)]
    return torch.stack((own + mixed)[:SAMPLES])


def _coefficients(probe: Probe, at: Tensor, row: int, columns: list[int], heads: int) -> Tensor:
    """alpha[row, columns] of the first sequence with query ``at`` (batch, ...) in the row: (heads, columns)."""
    query = probe.query.clone()
    query[:, row] = at
    return probe.coefficients(columns, query=query)[0, :heads, row]


def _slopes(probe: Probe, queries: Tensor, row: int, columns: list[int], heads: int) -> tuple[Tensor, Tensor]:
    """Gradients of log|alpha| (queries, heads, columns, numbers of a query) and where alpha is not zero."""
    slopes, there = [], []
    for at in queries:
        with torch.enable_grad():
            at = at.clone().requires_grad_()
            alpha = _coefficients(probe, at, row, columns, heads)
            if alpha.is_complex():
                raise RuntimeError("the coefficients are complex")
            grads = _gradients(alpha.flatten(), at, probe.time >= BATCHED)
        parts = torch.view_as_real(grads.resolve_conj()) if grads.is_complex() else grads
        here = alpha.detach() != 0
        slope = parts[:, 0].reshape(*here.shape, -1).to(alpha.detach())
        slopes.append(slope / torch.where(here, alpha.detach(), 1.0)[..., None])
        there.append(here)
        usable = torch.stack(there)[:, :, 1:] & torch.stack(there)[:, :, :1]
        if int(usable.sum(0).min()) >= ENOUGH:
            break
    return torch.stack(slopes), torch.stack(there)


def _gradients(outputs: Tensor, at: Tensor, batched: bool) -> Tensor:
    """The gradient of each output: (outputs, batch, ...). All at once where the mixer's operations allow it."""
    if batched:
        with warnings.catch_warnings(), contextlib.suppress(RuntimeError, NotImplementedError):
            warnings.simplefilter("ignore")  # an operation that has no batched form is slow, not wrong
            each = torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)
            return torch.autograd.grad(outputs, at, each, retain_graph=True, is_grads_batched=True)[0]
    return torch.stack([torch.autograd.grad(x, at, retain_graph=True)[0] for x in outputs])


def _disagreement(probe: Probe, queries: Tensor, row: int, columns: list[int], slopes: Tensor, there: Tensor) -> float:
    """Of the gradients at the first query with a central difference quotient along a random direction, relative."""
    at, heads = queries[0], slopes.shape[1]
    size = float(torch.linalg.vector_norm(torch.view_as_real(at) if at.is_complex() else at)) or 1.0
    step = size * probe.precision ** (1 / 3)
    direction = probe.normal(*(torch.view_as_real(at) if at.is_complex() else at).shape)
    direction = direction / torch.linalg.vector_norm(direction)
    move = (torch.view_as_complex(direction) if at.is_complex() else direction) * step
    up, down = (_coefficients(probe, at + sign * move, row, columns, heads) for sign in (1, -1))
    use = there[0] & (up * down > 0)
    if not bool(use.any()):
        return 0.0
    quotient = ((up / down)[use].log()) / (2 * step)
    slope = (slopes[0] @ direction[0].flatten().to(slopes))[use]
    scale = torch.linalg.vector_norm(slopes[0][use]).clamp(min=torch.finfo(torch.float64).tiny)
    return float(torch.linalg.vector_norm(quotient - slope) / scale)
