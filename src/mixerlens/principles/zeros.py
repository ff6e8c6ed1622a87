"""Which keys one query can zero while it keeps another: by linear algebra, by linear programmes, and by Cover's count.

The zero set of phi decides. Linear phi, and polynomials whose only real root is 0, zero a key on a hyperplane of
queries; relu on a half-space; exp, sigmoid and polynomials without a real root nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import comb
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.readout import Exp, Polynomial, Readout, Relu, Sigmoid

ZeroSet = Literal["hyperplane", "half-space", "level", "none"]
Rule = Literal["hyperplane", "half-space", "corner"]  # what a query must do to have one key alone
KEPT = 1e-6  # a kept score below this part of |q|_inf |k| counts as none
INSIDE = 1e-9  # relative distance to a span up to which a key counts as in it


def cover(keys: int, dim: int) -> int:
    """Cover's counting function: how many of the 2^N ways to split N keys in general position in n dimensions a
    hyperplane through 0 cuts, 2 sum_{k < n} C(N - 1, k). Raises InputError for fewer than one key or dimension.
    """
    if keys < 1 or dim < 1:
        raise InputError(f"Cover's count of {keys} keys in {dim} dimensions: both must be at least 1")
    return 2 * sum(comb(keys - 1, k) for k in range(min(dim, keys)))


def cover_probability(keys: int, dim: int) -> float:
    """The share of the splits, C(N, n) / 2^N: 1 for N <= n, one half at N = 2 n. It is also the probability that one
    given split of random keys is cut, if k and -k are equally likely, and so that relu keeps one and zeroes the rest.
    """
    return float(Fraction(cover(keys, dim), 2**keys))


def zero_set(readout: Readout) -> ZeroSet | None:
    """Where phi vanishes on real scores; "level": at roots other than 0 alone; None for a readout not known here."""
    if readout.linear:
        return "hyperplane"
    if isinstance(readout, Relu):
        return "half-space"
    if isinstance(readout, Sigmoid) or readout.exponential:
        return "none"
    if isinstance(readout, Polynomial):
        coefficients = [Fraction(c) for c in readout.coefficients]
        while coefficients and coefficients[0] == 0:
            coefficients.pop(0)
        at_zero = len(coefficients) < len(readout.coefficients)
        if real_roots(coefficients):
            return "level"
        return "hyperplane" if at_zero and coefficients else "none"
    return None


def alone_rule(readout: Readout) -> Rule | None:
    """What lets one key have all of the mass, of zeros or in the limit of a long query; None where nothing does.

    exp: to be a corner of the convex hull of the keys. sigmoid: a half-space, as for relu: for a long query it is 0 on
    one side and 1 on the other. A soft cap bounds every ratio, and a polynomial without zeros compares powers.
    """
    if isinstance(readout, Exp):
        return "corner"
    if isinstance(readout, Sigmoid):
        return "half-space"
    zeros = zero_set(readout)
    return zeros if zeros == "hyperplane" or zeros == "half-space" else None


def real_roots(coefficients: list[Fraction]) -> int:
    """How many different real roots a polynomial has, constant term first: Sturm's theorem, in exact fractions."""

    def trimmed(p: list[Fraction]) -> list[Fraction]:
        while p and p[-1] == 0:
            p = p[:-1]
        return p

    def remainder(p: list[Fraction], q: list[Fraction]) -> list[Fraction]:
        while len(p) >= len(q):
            factor, shift = p[-1] / q[-1], len(p) - len(q)
            p = trimmed([c - factor * q[k - shift] if k >= shift else c for k, c in enumerate(p)][:-1])
        return p

    first = trimmed(coefficients)
    if len(first) < 2:
        return 0
    chain = [first, [k * c for k, c in enumerate(first)][1:]]
    while rest := remainder(chain[-2], chain[-1]):
        chain.append([-c for c in rest])

    def changes(side: int) -> int:
        signs = [(p[-1] > 0) ^ (side < 0 and len(p) % 2 == 0) for p in chain]
        return sum(a != b for a, b in pairwise(signs))

    return changes(-1) - changes(1)


def keeps_alone(keys: Float[Tensor, "keys dim"], target: int, rule: Rule, others: list[int]) -> bool:
    """Whether some query zeroes all of ``others`` and keeps the target: exactly, for these keys.

    "hyperplane": the target is outside the span of the others. "half-space": max q.k_target over q.k_l <= 0 and
    |q|_inf <= 1 is above 0. "corner": max t over q.(k_target - k_l) >= t and |q|_inf <= 1 is above 0, so that under exp
    a long query gives the target all of the mass. Vectors are brought to norm 1 where their direction alone counts;
    what is found up to 1e-6 is 0. Raises UnsupportedError without scipy.
    """
    if rule != "corner":
        size = keys.norm(dim=-1, keepdim=True)
        unit = keys / torch.where(size > 0, size, 1)
        if float(size[target]) == 0:
            return False
        if not others:
            return True
        if rule == "hyperplane":
            return float(_beyond(unit[others], unit[target])) > INSIDE
        return _programme(unit[target], unit[others])
    if not others:
        return True
    apart = keys[target] - keys[others]
    length = apart.norm(dim=-1, keepdim=True)
    if bool((length == 0).any()):
        return False  # a twin takes as much
    return _margin(apart / length)


def most_nearest(keys: Float[Tensor, "keys dim"], target: int, rule: Rule, order: list[int]) -> int:
    """The largest m such that the first m keys of ``order`` can all be zeroed and the target kept: by bisection, as a
    further key only makes it harder."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if keeps_alone(keys, target, rule, order[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


@lru_cache(maxsize=32)
def random_keys(dim: int, rule: Rule, counts: tuple[int, ...], trials: int, seed: int) -> tuple[int, ...]:
    """In how many of ``trials`` draws of N normal keys one given key can be kept alone, for each N of ``counts``."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for count in counts:
        drawn = torch.randn(trials, count, dim, dtype=torch.float64, generator=draw)
        found.append(sum(keeps_alone(keys, 0, rule, list(range(1, count))) for keys in drawn))
    return tuple(found)


def _beyond(others: Tensor, target: Tensor) -> Tensor:
    """Distance of a unit vector from the span of others."""
    _, values, basis = torch.linalg.svd(others, full_matrices=False)
    basis = basis[values > INSIDE * values[:1]] if len(values) else basis
    return (target - (target @ basis.mH) @ basis).norm()


def _programme(target: Tensor, others: Tensor) -> bool:
    """max q.target over q.others <= 0, |q|_inf <= 1."""
    return _solve(-target, others, [(-1, 1)] * len(target)) > KEPT


def _margin(rows: Tensor) -> bool:
    """max t over q.rows >= t, |q|_inf <= 1."""
    cost = torch.cat([torch.zeros_like(rows[0]), -torch.ones_like(rows[0, :1])])
    bounds = [(-1, 1)] * rows.shape[-1] + [(None, None)]
    return _solve(cost, torch.cat([-rows, torch.ones_like(rows[:, :1])], -1), bounds) > KEPT


def _solve(cost: Tensor, rows: Tensor, bounds: Sequence[tuple[int | None, int | None]]) -> float:
    """-min cost.x over rows.x <= 0 within bounds; 0 is always allowed."""
    try:
        from scipy.optimize import linprog
    except ImportError as error:
        raise UnsupportedError("linear programmes need scipy: pip install 'mixerlens[design]'") from error
    found = linprog(cost.numpy(), A_ub=rows.numpy(), b_ub=[0.0] * len(rows), bounds=bounds, method="highs")
    if not found.success:
        raise UnsupportedError(f"a linear programme of {len(rows)} keys was given up: {found.message}")
    return -float(found.fun)
