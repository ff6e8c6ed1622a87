"""Readouts that are no linear map and still have a finite recurrence: polynomials, and relu on a state of one number.

    z^e = (q^T u)^e = sym_e(q)^T sym_e(u)            sym_e: the C(n + e - 1, e) monomials of degree e, each times the
    sym_e(A u) = Sym^e(A) sym_e(u)                   root of its multinomial coefficient
    phi(z) = sum_e c_e z^e = (c_e sym_e(q))_e^T (sym_e(u))_e

so a polynomial of u's scores is linear in the symmetric powers of u, and these evolve linearly whatever the A_t are.
For n = 1, relu(q u) = relu(q) relu(u) + relu(-q) relu(-u), and [[a+, a-], [a-, a+]] with a+ = relu(a), a- = relu(-a)
carries (relu(u), relu(-u)) on: two numbers. For n >= 2 only polynomials have a finite recurrence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement
from math import comb, factorial, prod
from typing import ClassVar, Self

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Dense, Diagonal, Evolution, Identity, Scalar
from mixerlens.normalizer import Normalizer, RowSumSink
from mixerlens.operator.memory import require
from mixerlens.readout import Identity as IdentityReadout
from mixerlens.readout import Polynomial, Readout, Relu
from mixerlens.shapes import spread, wide

__all__ = ["SymmetricPowers", "finite", "lift", "lifted_dim", "power"]


def finite(readout: Readout, dim: int) -> bool:
    """Whether a causal mixer with this readout on states of ``dim`` numbers has a finite recurrence for every input."""
    return readout.finite_state or (dim == 1 and isinstance(readout, Relu))


def lifted_dim(readout: Readout, dim: int) -> int:
    """Numbers a value channel of that recurrence. Raises UnsupportedError where there is none."""
    if readout.linear:
        return dim
    if isinstance(readout, Polynomial):
        return sum(comb(dim + e - 1, e) for e in _degrees(readout))
    if finite(readout, dim):
        return 2
    raise UnsupportedError(f"readout {readout} on states of {dim} numbers has no finite recurrence to lift to")


def lift(d: CoefficientDynamics) -> CoefficientDynamics:
    """The same coefficients with a linear readout, on states of ``lifted_dim`` numbers: exact, not an approximation.

    A linear readout comes back as it is. Raises UnsupportedError for a readout that no finite recurrence has, and
    MemoryBudgetError, with the number of bytes, where the lifted queries and keys would not fit.
    """
    if d.readout.linear:
        return d
    size = lifted_dim(d.readout, d.dim)
    require(
        f"lifting {d.dim} numbers to {size}", d.batch, d.time, d.heads, size,
        dtype=d.dtype, copies=3, instead="take a lower degree or a smaller state",
    )  # fmt: skip
    key = d.key if d.scaling is None else spread(d.key, d.heads, 2) * d.scaling.to(d.dtype).unsqueeze(-1)
    if isinstance(d.readout, Polynomial):
        degrees = _degrees(d.readout)
        query = torch.cat([d.readout.coefficients[e] * power(d.query, e) for e in degrees], -1)
        key, evolution = torch.cat([power(key, e) for e in degrees], -1), _powers(d.evolution, d.dim, degrees)
    else:
        query, key, evolution = _signed(d.query), _signed(key), _signed_evolution(d)
    normalizer = _lifted(d.normalizer, d.readout)
    return replace(
        d, query=query, key=key, scaling=None, evolution=evolution, readout=IdentityReadout(), normalizer=normalizer,
        length=d.time,
    )  # fmt: skip


def power(x: Inexact[Tensor, "... dim"], degree: int) -> Inexact[Tensor, "... monomials"]:
    """sym_e(x): all monomials of this degree times the root of their multinomial coefficient."""
    if degree == 0:
        return torch.ones_like(x[..., :1])
    places, weight, _ = _monomials(x.shape[-1], degree)
    product = x[..., places[:, 0]]
    for k in range(1, degree):
        product = product * x[..., places[:, k]]
    return product * weight.to(product)


@dataclass(frozen=True, eq=False)
class SymmetricPowers(Evolution):
    """Sym^e(A_t) side by side for each of ``degrees``, A_t the inner evolution on ``dim`` numbers.

    Acts on full tensors of degree e, one axis after the other, so that any kind can be inside. Eigenvalues: the
    products of e of the inner ones where these are given one a dimension.
    """

    inner: Evolution
    dim: int
    degrees: tuple[int, ...]
    chunk: ClassVar[int] = 16

    def step(self, state: Tensor, t: int) -> Tensor:
        parts = state.split([comb(self.dim + e - 1, e) for e in self.degrees], -2)
        return torch.cat([self._step(x, e, t) for x, e in zip(parts, self.degrees, strict=True)], -2)

    def _step(self, state: Tensor, degree: int, t: int) -> Tensor:
        """Sym^e(A_t) on (batch, heads, monomials, m)."""
        if degree == 0:
            return state
        places, weight, entries = _monomials(self.dim, degree)
        weight = weight.to(state)[:, None]
        full = (state / weight)[..., entries, :]  # every entry of the symmetric tensor
        width = full.shape[-1]
        for _ in range(degree):  # A_t on the first axis, which then becomes the last
            moved = self.inner.step(full.unflatten(-2, (self.dim, -1)).flatten(-2), t)
            full = moved.unflatten(-1, (-1, width)).transpose(-3, -2).flatten(-3, -2)
        flat = sum(places[:, k] * self.dim ** (degree - 1 - k) for k in range(degree))
        return full[..., flat, :] * weight

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        values = self.inner.eigenvalues(lo, hi)
        if values.shape[-1] != self.dim:
            raise UnsupportedError(
                f"the eigenvalues of {type(self.inner).__name__} come without multiplicities: "
                "those of its symmetric powers cannot be counted"
            )
        products = [torch.ones_like(values[..., :1]) if e == 0 else _products(values, e) for e in self.degrees]
        return torch.cat(products, -1)

    def check(self, dim: int) -> None:
        need = sum(comb(self.dim + e - 1, e) for e in self.degrees)
        if dim != need:
            raise InputError(f"powers {self.degrees} of {self.dim} numbers are {need}, query and key have {dim}")
        self.inner.check(self.dim)

    def check_length(self, time: int) -> None:
        self.inner.check_length(time)

    def fold(self, batch: int, lo: int, size: int, count: int) -> Self:
        return replace(self, inner=self.inner.fold(batch, lo, size, count))


def _degrees(readout: Polynomial) -> tuple[int, ...]:
    return tuple(e for e, c in enumerate(readout.coefficients) if c) or (0,)


@lru_cache(maxsize=64)
def _monomials(dim: int, degree: int) -> tuple[Tensor, Tensor, Tensor]:
    """(places, weight, entries): the variables of each monomial (monomials, degree), the root of its multinomial
    coefficient, and for every entry of a full tensor (dim^degree) the monomial that it holds."""
    every = list(combinations_with_replacement(range(dim), degree))
    counts = [prod(factorial(m.count(i)) for i in set(m)) for m in every]
    places = torch.tensor(every, dtype=torch.long).reshape(len(every), degree)
    weight = (factorial(degree) / torch.tensor(counts, dtype=torch.float64)).sqrt()
    index = {m: k for k, m in enumerate(every)}
    grid = torch.cartesian_prod(*[torch.arange(dim)] * degree).reshape(-1, degree).sort(-1).values
    entries = torch.tensor([index[tuple(m)] for m in grid.tolist()], dtype=torch.long)
    return places, weight, entries


def _powers(inner: Evolution, dim: int, degrees: tuple[int, ...]) -> Evolution:
    """The direct sum of Sym^e: closed forms where A_t acts on each dimension by itself."""
    if isinstance(inner, Identity):
        return inner
    if isinstance(inner, Scalar | Diagonal):
        name, gates = ("decay", inner.decay) if inner.decay is not None else ("log_decay", inner.log_decay)
        if gates is None:
            assert isinstance(inner, Diagonal) and inner.rate is not None and inner.step_size is not None
            gates = inner.rate * inner.step_size.unsqueeze(-1)
        gates = wide(gates.unsqueeze(-1) if isinstance(inner, Scalar) else gates)
        gates = gates.expand(*gates.shape[:-1], dim)
        combine = _sums if name == "log_decay" else _products
        zero = torch.zeros_like(gates[..., :1])
        neutral = zero if name == "log_decay" else zero + 1
        return Diagonal(**{name: torch.cat([combine(gates, e) if e else neutral for e in degrees], -1)})
    return SymmetricPowers(inner, dim, degrees)


def _sums(x: Tensor, degree: int) -> Tensor:
    """The sums of ``degree`` entries, one for each monomial."""
    return x[..., _monomials(x.shape[-1], degree)[0]].sum(-1)


def _products(x: Tensor, degree: int) -> Tensor:
    return x[..., _monomials(x.shape[-1], degree)[0]].prod(-1)


def _signed(x: Tensor) -> Tensor:
    return torch.cat([torch.relu(x), torch.relu(-x)], -1)


def _signed_evolution(d: CoefficientDynamics) -> Evolution:
    """[[a+, a-], [a-, a+]] for A_t = a_t, one number."""
    if isinstance(d.evolution, Identity):
        return d.evolution
    one = torch.ones(d.batch, d.heads, 1, 1, dtype=d.dtype, device=d.device)
    a = torch.stack([d.evolution.step(one, t) for t in range(d.time)], 1)
    up, down = torch.relu(a), torch.relu(-a)
    return Dense(torch.cat([torch.cat([up, down], -1), torch.cat([down, up], -1)], -2))


def _lifted(normalizer: Normalizer, readout: Readout) -> Normalizer:
    """A sink enters the sum through the readout, which becomes the identity."""
    return RowSumSink(readout(normalizer.sink)) if isinstance(normalizer, RowSumSink) else normalizer
