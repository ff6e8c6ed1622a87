"""Which keys one query can zero while it keeps another: by linear algebra, by cones, and by Cover's count.

The zero set of phi decides. Linear phi, and polynomials whose only real root is 0, zero a key on a hyperplane of
queries; relu on a half-space; exp, sigmoid and polynomials without a real root nowhere.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import comb
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.readout import Exp, Polynomial, Readout, Relu, Sigmoid

ZeroSet = Literal["hyperplane", "half-space", "level", "none"]
Rule = Literal["hyperplane", "half-space", "corner", "open"]  # what a query must do to have one key alone
INSIDE = 1e-9  # distance of a unit vector to a span or cone up to which it counts as in it


def cover(keys: int, dim: int) -> int:
    """Cover's counting function: how many of the 2^N ways to split N keys in general position in n dimensions a
    hyperplane through 0 cuts, 2 sum_{k < n} C(N - 1, k). Raises InputError for fewer than one key or dimension.
    """
    if keys < 1 or dim < 1:
        raise InputError(f"Cover's count of {keys} keys in {dim} dimensions: both must be at least 1")
    return 2 * sum(comb(keys - 1, k) for k in range(min(dim, keys)))


def cover_probability(keys: int, dim: int) -> float:
    """The share of the splits, C(N, n) / 2^N: 1 for N <= n, one half at N = 2 n. It is also the probability that one
    given split of random keys is cut, if they are in general position and k and -k equally likely for each of them
    alone, and so that relu keeps one and zeroes the rest.
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

    exp: to be a corner of the convex hull of the keys. sigmoid: "open", every other score below 0 and below the key's
    own; at 0 it is no zero. A soft cap bounds every ratio, and a polynomial without zeros compares powers.
    """
    if isinstance(readout, Exp):
        return "corner"
    if isinstance(readout, Sigmoid):
        return "open"
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

    "hyperplane": q.k_l = 0 for the others and not for the target, which is then outside their span. "half-space":
    q.k_l <= 0 for the others and q.k_target > 0: the target is outside their cone. "corner": q.(k_target - k_l) > 0 for
    all others, so that under exp a long query gives the target all of the mass: it is outside their convex hull.
    "open": q.(k_target - k_l) > 0 and q.k_l < 0 for all others, so that under sigmoid a long query does; a key that is
    zero never goes. Keys of the first two rules, differences (and keys) of the others are brought to norm 1; a distance
    of these up to 1e-9 counts as none.

    Raises UnsupportedError without scipy, but for a hyperplane.
    """
    if rule == "corner" or rule == "open":
        apart = keys[others] - keys[target]
        return _one_side(apart if rule == "corner" else torch.cat([apart, keys[others]]))
    size = keys.norm(dim=-1, keepdim=True)
    if float(size[target]) == 0:
        return False
    unit = keys / torch.where(size > 0, size, 1)
    others = [j for j in others if float(size[j]) > 0]
    if not others:
        return True
    if rule == "hyperplane":
        return _spanned(unit[others], unit[target]) == len(others)
    return _outside_cone(unit[others], unit[target]) > INSIDE


def most_nearest(keys: Float[Tensor, "keys dim"], target: int, rule: Rule, order: list[int]) -> int:
    """The largest m such that the first m keys of ``order`` can all be zeroed and the target kept: by bisection, as a
    further key only makes it harder."""
    if rule == "hyperplane":
        size = keys.norm(dim=-1, keepdim=True)
        unit = keys / torch.where(size > 0, size, 1)
        return _spanned(unit[order], unit[target]) if float(size[target]) > 0 else 0
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
        if rule == "hyperplane":  # in general position the first dim others span all that the others span
            basis = torch.linalg.qr(drawn[:, 1 : dim + 1].mT).Q
            rest = drawn[:, 0] - (basis @ (basis.mT @ drawn[:, 0, :, None]))[..., 0]
            found.append(int((rest.norm(dim=-1) > INSIDE * drawn[:, 0].norm(dim=-1)).sum()))
            continue
        found.append(sum(keeps_alone(keys, 0, rule, list(range(1, count))) for keys in drawn))
    return tuple(found)


def _spanned(others: Tensor, target: Tensor) -> int:
    """How many of the others, from the first on, a unit vector is outside the span of: orthogonalised one by one,
    twice for the digits that the first time loses."""
    keys, rest = others.numpy(), target.numpy()
    basis, size = np.zeros((min(keys.shape), keys.shape[1]), dtype=keys.dtype), 0
    for m, key in enumerate(keys):
        if size == len(basis):
            break  # the span is all that it can be
        new = key
        for _ in range(2):
            new = new - (basis[:size].conj() @ new) @ basis[:size]
        norm = np.linalg.norm(new)
        if norm <= INSIDE:
            continue
        basis[size] = new / norm
        rest = rest - (basis[size].conj() @ rest) * basis[size]
        size += 1
        if np.linalg.norm(rest) <= INSIDE:
            return m
    return len(keys)


def _one_side(vectors: Tensor) -> bool:
    """Whether some q has q.v < 0 for all vectors: by Gordan if and only if 0 is outside their convex hull."""
    if not len(vectors):
        return True
    size = vectors.norm(dim=-1, keepdim=True)
    if bool((size == 0).any()):
        return False
    unit = torch.cat([vectors / size, torch.ones_like(size)], -1)
    return _outside_cone(unit, torch.eye(unit.shape[-1], dtype=unit.dtype)[-1]) > INSIDE


def _outside_cone(others: Tensor, target: Tensor) -> float:
    """Distance of a unit vector from the cone sum_l w_l k_l, w >= 0, of unit vectors.

    By Farkas it is above 0 if and only if some q has q.k_l <= 0 for all l and q.target > 0; the rest of the projection
    is such a q.
    """
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise UnsupportedError("zeros of relu and exp need scipy: pip install 'mixerlens[design]'") from error
    try:
        return float(nnls(others.mT.numpy(), target.numpy(), maxiter=30 * max(others.shape))[1])
    except RuntimeError as error:
        raise UnsupportedError(f"the projection on a cone of {len(others)} keys did not end: {error}") from error
