"""How the coefficients of one row depend on its query: along a line q_i + s d, compared with one another."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mixerlens.membership.probe import Probe
from mixerlens.membership.record import Finding

POINTS = 24
COARSE = 5  # points to choose the length of the line with
COLUMNS = 4
DEGREES = (1, 2, 3)
SPREAD = (3.0, 1e4)  # a ratio should vary by a factor between these along the line: less is flat, more is lopsided
STEP, STEPS = 8.0, 9  # the line grows by this factor, so often at most
CONSTANT, LINEAR, EXPONENTIAL, OTHER = "constant", "linear", "exponential", "other"


def profile(probe: Probe, alpha: Tensor) -> tuple[set[str], Finding]:
    """The kinds of dependence found, one a head: "constant", "linear", "polynomial 2", "exponential", ... or "other".

    What is compared are ratios alpha_ij / alpha_il, which eta cancels out of: constant; log-linear in s (exp); a ratio
    of two polynomials of one degree in s (degree 1: a linear readout; 2 and 3: a polynomial one); or none of these.
    """
    row = probe.time - 1
    a, b = probe.tokens(2)
    columns = sorted({int(j) for j in _present(alpha, row)})
    if not columns:
        return {CONSTANT}, Finding("query", "not run", f"row {row} has no coefficient that is not zero in every head")

    def table(points: Tensor) -> Tensor:
        """(points, heads, columns): the row's coefficients at each point of the line."""
        rows = []
        for s in points.tolist():
            query = probe.query.clone()
            query[:, row] = probe.query[:, a] + s * (probe.query[:, b] - probe.query[:, a])
            rows.append(probe.coefficients(columns, query=query)[0, :, row])
        return torch.stack(rows).cpu()

    reach = _reach(table)
    nodes = torch.cos(torch.pi * (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS)
    measured = table(reach * nodes)
    bar = max(1e-12, 64 * probe.precision)
    found, worst = set(), 0.0
    for head in range(measured.shape[1]):
        kind, residual = _kind(nodes, measured[:, head], bar)
        found.add(kind)
        worst = max(worst, residual)
    told = f"ratios of a row's coefficients are {' and '.join(sorted(found))} in the query"
    given = f"row {row}, columns {columns}, query {a} + s (query {b} - query {a}), |s| <= {reach:g}"
    return found, Finding("query", "note", told, {"residual": worst}, f"residual <= {bar:.0e}", given)


def _reach(table: Callable[[Tensor], Tensor]) -> float:
    """How far to go along the line, so that ratios vary enough to show their form, and not so much as to hide it."""
    reach, points = 1.0, torch.linspace(-1, 1, COARSE, dtype=torch.float64)
    spread = _spread(table(points))
    for _ in range(STEPS):
        if spread >= SPREAD[0]:
            break
        reach *= STEP
        spread = _spread(table(reach * points))
    for _ in range(STEPS):
        if spread <= SPREAD[1]:
            break
        reach /= 2
        spread = _spread(table(reach * points))
    return reach


def _spread(table: Tensor) -> float:
    """By which factor ratios of coefficients vary over the points, the most; points with a zero are left out."""
    sizes = table.abs()
    if not bool(torch.isfinite(sizes).all()):
        return math.inf
    kept = (sizes > 0).all(-1)  # (points, heads)
    logs = torch.where(kept[..., None], (sizes / sizes[..., :1]).log(), torch.nan)
    ranges = [x[~x.isnan()] for x in logs.flatten(1).T]
    return math.exp(min(max((float(x.max() - x.min()) for x in ranges if len(x)), default=0.0), 700.0))


def _present(alpha: Tensor, row: int) -> Tensor:
    """The columns of a row that are not zero in any head, the first few of evenly spread ones."""
    there = (alpha[0, :, row] != 0).all(0).nonzero().flatten()
    if len(there) <= COLUMNS:
        return there
    return there[[round(k * (len(there) - 1) / (COLUMNS - 1)) for k in range(COLUMNS)]]


def _kind(nodes: Tensor, table: Tensor, bar: float) -> tuple[str, float]:
    """The simplest kind that every pair of columns obeys, and its residual."""
    pairs = [(table[:, 0], table[:, c]) for c in range(1, table.shape[1])]
    if not pairs:
        return CONSTANT, 0.0  # a single coefficient, which eta can be
    if not bool(torch.isfinite(torch.view_as_real(table) if table.is_complex() else table).all()):
        return OTHER, 0.0
    kinds = [(CONSTANT, 0), (EXPONENTIAL, None), (LINEAR, 1), *((f"polynomial {e}", e) for e in DEGREES if e > 1)]
    least = float("inf")
    for name, degree in kinds:
        off = max(_log_linear(nodes, x, y) if degree is None else _rational(nodes, x, y, degree) for x, y in pairs)
        if off <= bar:
            return name, off
        least = min(least, off)
    return OTHER, least


def _rational(nodes: Tensor, x: Tensor, y: Tensor, degree: int) -> float:
    """0 if x p = y r for polynomials p, r of this degree in the nodes: the smallest singular value, relative."""
    keep = (x != 0) | (y != 0)
    if int(keep.sum()) < 2 * degree + 4:
        return float("inf")
    basis = torch.cos(torch.arange(degree + 1) * torch.acos(nodes[keep])[:, None]).to(x.dtype)
    x, y = (z[keep, None] / z.abs().mean().clamp(min=torch.finfo(torch.float64).tiny) for z in (x, y))
    size = torch.sqrt(x.abs() ** 2 + y.abs() ** 2)
    x, y = x / size, y / size
    values = torch.linalg.svdvals(torch.cat([x * basis, y * basis], 1))
    return float(values[-1] / values[0])


def _log_linear(nodes: Tensor, x: Tensor, y: Tensor) -> float:
    """0 if log(x / y) is linear in the nodes, for positive x and y: the residual of a straight line, relative."""
    if x.is_complex() or not bool(((x > 0) & (y > 0)).all()):
        return float("inf")
    ratio = torch.log(x) - torch.log(y)
    basis = torch.stack([torch.ones_like(nodes), nodes], 1)
    fit = basis @ torch.linalg.lstsq(basis, ratio[:, None]).solution
    return float(torch.linalg.vector_norm(ratio - fit[:, 0]) / torch.linalg.vector_norm(ratio).clamp(min=1.0))
