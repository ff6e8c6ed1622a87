"""What a kind of evolution A_t must say, and what it inherits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from operator import index
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.shapes import fold, spread, take_heads, take_tokens, wide


class Carry:
    """How a state crosses one chunk: the product of the chunk's A_t. This base is the identity.

    Parameters are float64 (complex128), and so should be what travels: the rounding of a constant factor is the same
    in every chunk, so in float32 it would compound with the length.
    """

    def forward(self, state: Tensor) -> Tensor:
        """(batch, heads, dim, m) -> the state after the chunk."""
        return state

    def backward(self, rows: Tensor) -> Tensor:
        """Row vectors (batch, heads, r, dim) that read after the chunk -> those that read the same before it."""
        return rows

    def windows(self, count: int) -> list[Carry]:
        """The carries of ``count`` windows that were folded into the batch axis; see ``mixerlens.shapes.fold``."""
        if not is_dataclass(self):  # the identity
            return [self] * count
        parts: dict[str, Sequence[Any]] = {}
        for f in fields(self):
            x = getattr(self, f.name)
            if isinstance(x, Carry):
                parts[f.name] = x.windows(count)
            elif isinstance(x, Tensor) and x.shape[0] > 1:
                parts[f.name] = x.unflatten(0, (-1, count)).unbind(1)
        return [replace(self, **{name: each[k] for name, each in parts.items()}) for k in range(count)]


@dataclass(frozen=True, eq=False)
class Diagonal(Carry):
    """Multiplies each state dimension: factor (batch, heads, dim | 1)."""

    factor: Tensor

    def forward(self, state: Tensor) -> Tensor:
        return self.factor.unsqueeze(-1) * state

    def backward(self, rows: Tensor) -> Tensor:
        return rows * self.factor.unsqueeze(-2)


@dataclass(frozen=True, eq=False)
class Matrix(Carry):
    """A dense product: matrix (batch, heads, dim, dim)."""

    matrix: Tensor

    def forward(self, state: Tensor) -> Tensor:
        dtype = torch.promote_types(self.matrix.dtype, state.dtype)
        return self.matrix.to(dtype) @ state.to(dtype)

    def backward(self, rows: Tensor) -> Tensor:
        dtype = torch.promote_types(self.matrix.dtype, rows.dtype)
        return rows.to(dtype) @ self.matrix.to(dtype)


@dataclass(frozen=True, eq=False)
class Factors:
    """The semiseparable generators of one chunk [lo, hi), before phi and without the scaling b.

    intra: (batch, heads, c, c); intra[i, j] = q_i^T A_i ... A_{j+1} k_j for j <= i, 0 above.
    emit: (batch, heads, c, dim); row i is q_i^T A_i ... A_lo: what query i reads of the state before the chunk.
    inject: (batch, heads, c, dim); row j is A_{hi-1} ... A_{j+1} k_j: what key j leaves at the end of the chunk.
    carry: A_{hi-1} ... A_lo, in float64.
    """

    intra: Tensor
    emit: Tensor
    inject: Tensor
    carry: Carry

    def to(self, dtype: torch.dtype) -> Factors:
        """Cast what one chunk multiplies with; what travels between chunks stays as it is."""
        return Factors(self.intra.to(dtype), self.emit.to(dtype), self.inject.to(dtype), self.carry)


@dataclass(frozen=True, eq=False)
class Evolution:
    """A_t, the linear map that carries every impulse over token t.

    A kind stores its parameters as tensors (batch | 1, time | 1, heads | groups | 1, ...), implements ``step``, and
    inherits everything else; it overrides ``factors`` where its structure allows a closed form. Parameters are
    checked to be finite by the kind that owns them.
    """

    chunk: ClassVar[int] = 16  # tokens a tile: where this kind's closed form is cheapest
    gates: ClassVar[tuple[str, ...]] = ("log_decay",)  # exponents, which may be -inf

    def step(self, state: Tensor, t: int) -> Tensor:
        """A_t applied to a state (batch, heads, dim, m): the oracle, as plain as the equation."""
        raise NotImplementedError

    def factors(self, query: Tensor, key: Tensor, lo: int, hi: int) -> Factors:
        """The chunk's generators; query, key (batch, heads | groups | 1, hi - lo, dim).

        This default steps through the chunk. It is what a new kind starts from and what closed forms are tested with.
        """
        sizes = [(query.shape[0], 0, query.shape[1]), (key.shape[0], 0, key.shape[1]), *self.sizes().values()]
        batch, heads = max(s[0] for s in sizes), max(s[2] for s in sizes)
        dtype, dim = query.dtype, query.shape[-1]
        query, key = (spread(wide(x), heads).expand(batch, heads, -1, -1) for x in (query, key))
        start = torch.eye(dim, dtype=query.dtype, device=query.device).expand(batch, heads, dim, dim)
        columns = start  # the product so far, then one impulse a token
        emit, intra = [], []
        for i, t in enumerate(range(lo, hi)):
            columns = torch.cat([self.step(columns, t), key[:, :, i, :, None]], -1)
            read = (query[:, :, i, None, :] @ columns)[:, :, 0]
            emit.append(read[..., :dim])
            intra.append(torch.nn.functional.pad(read[..., dim:], (0, hi - lo - i - 1)))
        product, inject = columns[..., :dim], columns[..., dim:]
        return Factors(
            torch.stack(intra, -2).to(dtype), torch.stack(emit, -2).to(dtype), inject.mT.to(dtype), Matrix(product)
        )

    def kernel(self, query: Tensor, key: Tensor, length: int) -> Tensor | None:
        """q^T A^l k for lags l < length, (batch, heads, length), where a time-invariant kind has a closed form.

        query, key: (batch, heads | groups | 1, dim). None: no closed form, the caller scans.
        """
        return None

    def eigenvalues(self, lo: int = 0, hi: int | None = None) -> Tensor:
        """Eigenvalues of A_t for lo <= t < hi, complex128 (batch | 1, time | 1, heads | 1, modes).

        Repeated eigenvalues may be given once; the kind's docstring says which.
        """
        raise NotImplementedError

    @property
    def is_complex(self) -> bool:
        return any(x.is_complex() for x in self.tensors().values())

    @property
    def time_invariant(self) -> bool:
        """A_t is the same for every t >= 1: A_0 acts on no impulse of the sequence. See ``begins``."""
        parts = [getattr(self, f.name) for f in fields(self)]
        return all(x.shape[1] == 1 for x in parts if isinstance(x, Tensor)) and all(
            x.time_invariant for x in parts if isinstance(x, Evolution)
        )

    @property
    def begins(self) -> bool:
        """A_0 may differ from the other A_t of a time-invariant kind."""
        return any(x.begins for x in (getattr(self, f.name) for f in fields(self)) if isinstance(x, Evolution))

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name; those of an evolution inside this one as "inner log_decay"."""
        named = {}
        for f in fields(self):
            x = getattr(self, f.name)
            if isinstance(x, Evolution):
                named |= {f"{f.name} {name}": y for name, y in x.tensors().items()}
            elif isinstance(x, Tensor):
                named[f.name] = x
        return named

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same kind with every parameter changed, those of an evolution inside it too."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        inner = {name: x.map(change) for name, x in named.items() if isinstance(x, Evolution)}
        return replace(self, **inner, **{name: change(x) for name, x in named.items() if isinstance(x, Tensor)})

    def settle(self, trailing: dict[str, int] | None = None) -> None:
        """Bring the own parameters to their full shape; trailing counts their axes after the heads where there are any.

        Raises InputError for what ``parameter`` refuses, and for a decay that is given twice.
        """
        optional = {f.name: f.default is None for f in fields(self) if "Tensor" in str(f.type)}
        own = {name: getattr(self, name) for name in optional}
        if own.get("log_decay") is not None and own.get("decay") is not None:
            raise InputError("give log_decay or decay, not both")
        for name, x in own.items():
            if x is not None or not optional[name]:
                object.__setattr__(self, name, parameter(name, x, (trailing or {}).get(name, 0), name in self.gates))

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Named (batch, time, heads) sizes that must broadcast with query and key."""
        return {f"evolution {name}": (x.shape[0], x.shape[1], x.shape[2]) for name, x in self.tensors().items()}

    def check(self, dim: int) -> None:
        """Raise InputError unless this evolution acts on states of ``dim`` numbers."""

    def check_length(self, time: int) -> None:
        """Raise InputError unless this evolution can be followed over ``time`` tokens."""

    def take_heads(self, index: Sequence[int], heads: int) -> Self:
        """The evolution of the given heads only."""
        return self.map(lambda x: take_heads(x, index, heads))

    def take_tokens(self, lo: int, hi: int) -> Self:
        """The evolution over the tokens lo <= t < hi only; token lo becomes token 0."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        inner = {name: x.take_tokens(lo, hi) for name, x in named.items() if isinstance(x, Evolution)}
        own = {name: take_tokens(x, lo, hi) for name, x in named.items() if isinstance(x, Tensor)}
        return replace(self, **inner, **own)

    def fold(self, batch: int, lo: int, size: int, count: int) -> Self:
        """The evolutions of ``count`` windows of ``size`` tokens from lo on, side by side on the batch axis.

        Where ``begins``, lo must not be 0: the first window would need another A_0 than the rest.
        """
        return self.map(lambda x: fold(x, batch, lo, size, count))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """Move or widen the parameters. They are never narrowed: a rounded decay or phase costs more than it saves."""

        def move(x: Tensor) -> Tensor:
            numbers = dtype is not None and (x.is_floating_point() or x.is_complex())
            return x.to(device=device, dtype=torch.promote_types(x.dtype, dtype) if dtype and numbers else x.dtype)

        return self.map(move)

    def detach(self) -> Self:
        return self.map(Tensor.detach)


def parameter(name: str, x: Any, trailing: int, gate: bool = False) -> Tensor:
    """Bring a parameter to (batch, time, heads, *trailing): missing leading axes become 1.

    gate: whether it is an exponent that may be -inf, a closed gate.
    Raises InputError for what is no tensor, another shape, an axis of no numbers, NaN and other infinities.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"{name} must be a tensor, not {x!r:.60}: give torch.tensor(...)")
    if x.dim() > 3 + trailing or x.dim() < trailing:
        raise InputError(
            f"{name} has shape {tuple(x.shape)}: it must be (batch, time, heads{', ...' * trailing}) "
            "or leave out leading axes"
        )
    if 0 in x.shape:
        raise InputError(f"{name} has shape {tuple(x.shape)}: every axis needs at least one entry")
    if not bool(torch.isfinite(x.detach().sum())) and not bool(
        torch.isfinite(x).all()
    ):  # a sum is the cheaper question
        _refuse_values(name, x, gate)
    return x[(None,) * (3 + trailing - x.dim())]


def _refuse_values(name: str, x: Tensor, gate: bool) -> None:
    if bool(torch.isnan(x).any()):
        raise InputError(f"{name} holds NaN at {torch.isnan(x).nonzero()[0].tolist()}: check the weights it came from")
    size = x.real if x.is_complex() else x
    bad = torch.isposinf(size) if gate else torch.isinf(size)
    if x.is_complex():
        bad = bad | torch.isinf(x.imag)
    if bool(bad.any()):
        where = bad.nonzero()[0].tolist()
        rule = "below infinity (-inf is a closed gate)" if gate else "finite"
        raise InputError(f"{name} holds {x[tuple(where)].item()} at {where}: give numbers that are {rule}")


def whole(name: str, x: Any) -> int:
    """x as a whole number of at least 1. Raises InputError for anything else."""
    try:
        count = index(x)
    except TypeError:
        raise InputError(f"{name} must be a whole number, not {x!r:.60}") from None
    if count < 1:
        raise InputError(f"{name} must be at least 1, not {count}")
    return count
