"""Coefficients alpha as a linear operator on values: all that needs alpha only, of one mixer or of a sum."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeAlias

import torch
from jaxtyping import Inexact, Int
from torch import Tensor

from mixerlens.composition import Mixer
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.operator import apply as algorithms
from mixerlens.operator import linear, rank, recompute, reductions, sketch, streams
from mixerlens.operator.memory import require
from mixerlens.operator.tiles import RowTiles
from mixerlens.shapes import spread

Index: TypeAlias = "int | slice | Sequence[int] | Tensor"


class Coefficients:
    """alpha: (batch, heads, time, time), rows are queries, columns are keys; never dense by default.

    ``op @ v`` and ``op.T @ w`` take values (batch, time, heads or kv_heads, value_dim), kv_heads dividing heads. All
    methods are differentiable. Sizes that do not fit raise InputError.
    """

    dynamics: Mixer

    def __init__(self, dynamics: Mixer, *, transposed: bool = False) -> None:
        self.dynamics = dynamics
        self._transposed = transposed

    def __repr__(self) -> str:
        d = self.dynamics
        kinds = [(type(term.evolution).__name__, type(term.readout).__name__) for term, _ in d.terms]
        terms = " + ".join(f"{evolution} evolution, {readout} readout" for evolution, readout in kinds)
        size = f"batch {d.batch}, heads {d.heads}, time {d.time}, dim {d.dim}"
        return f"{type(self).__name__}({size}; {terms}{', transposed' if self._transposed else ''})"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        d = self.dynamics
        return d.batch, d.heads, d.time, d.time

    @property
    def T(self) -> Self:
        """The plain transpose, never conjugated; it acts by ``@`` and ``to_dense``."""
        return type(self)(self.dynamics, transposed=not self._transposed)

    def __matmul__(
        self, values: Inexact[Tensor, "batch time kv_heads value"]
    ) -> Inexact[Tensor, "batch time heads value"]:
        tiles = self._tiles(values)
        act = algorithms.transposed if self._transposed else algorithms.forward
        return act(self.dynamics, tiles).transpose(1, 2)

    def to_dense(self) -> Inexact[Tensor, "batch heads time time"]:
        """alpha as (batch, heads, time, time). Raises MemoryBudgetError before it starts if that does not fit."""
        d = self.dynamics
        require(
            "to_dense", *self.shape, dtype=d.dtype, copies=2,
            instead="use row, column, block or a reduction, which never hold the whole matrix",
        )  # fmt: skip
        free = not any(recompute.wanted(term) for term, _ in d.terms)
        dense = linear.dense(d) if free and streams.fits(d) else self._block(range(d.time), slice(None))
        return dense.mT if self._transposed else dense

    def row(self, i: int) -> Inexact[Tensor, "batch heads time"]:
        """alpha[i, :]: (batch, heads, time)."""
        return self.block(i, slice(None))[..., 0, :]

    def column(self, j: int) -> Inexact[Tensor, "batch heads time"]:
        """alpha[:, j]: (batch, heads, time)."""
        d = self.dynamics
        (index,) = _positions(j, d.time, "column")
        if d.recurrent and not self._transposed:
            unit = torch.zeros(1, d.time, 1, 1, dtype=d.dtype.to_real(), device=d.device)
            unit[:, index] = 1
            unit = unit.expand(d.batch, -1, d.heads, -1)
            return (self @ unit)[..., 0].transpose(1, 2)
        return self.block(slice(None), index)[..., 0]

    def block(self, rows: Index, columns: Index) -> Inexact[Tensor, "batch heads r c"]:
        """alpha[rows, columns] for an int, slice, list or index tensor each: (batch, heads, r, c), in that order."""
        time = self.dynamics.time
        row_list, column_list = _positions(rows, time, "row"), _positions(columns, time, "column")
        if self._transposed:
            return self._block(column_list, row_list).mT
        return self._block(row_list, column_list)

    def diagonal(self) -> Inexact[Tensor, "batch heads time"]:
        """alpha[i, i]: (batch, heads, time)."""
        return algorithms.diagonal(self.dynamics)

    def row_sum(self) -> Inexact[Tensor, "batch time heads"]:
        """sum_j alpha_ij: (batch, time, heads). One scan where there is a state."""
        total = linear.column_sum if self._transposed else linear.row_sum
        return total(self.dynamics).transpose(1, 2)

    def column_sum(self) -> Inexact[Tensor, "batch time heads"]:
        """sum_i alpha_ij: (batch, time, heads)."""
        total = linear.row_sum if self._transposed else linear.column_sum
        return total(self.dynamics).transpose(1, 2)

    def lag_moments(self, order: int = 1) -> Inexact[Tensor, "batch time heads powers"]:
        """sum_j alpha_ij (i - j)^p for p = 0 .. order: (batch, time, heads, order + 1), in double precision.

        Signed: where all of alpha is positive, the first over the zeroth is the mean distance. Evolutions that act on
        each state dimension by itself carry the moments with their state, and nothing cancels. For the others powers of
        lags of up to 1024 tokens do, within a block: an error of about 1e-16 * 1024^p of the row's mass in moment p.
        """
        self._forward_only("lag_moments")
        if not isinstance(order, int) or order < 0:
            raise InputError(f"order is {order!r}: give the highest power of the lag, 0 or more")
        return linear.lag_moments(self.dynamics, order).transpose(1, 2)

    def row_mass(self) -> Inexact[Tensor, "batch time heads"]:
        """sum_j |alpha_ij|: (batch, time, heads)."""
        return self._one(reductions.ColumnMass() if self._transposed else reductions.RowMass())

    def column_mass(self) -> Inexact[Tensor, "batch time heads"]:
        """sum_i |alpha_ij|: (batch, time, heads)."""
        return self._one(reductions.RowMass() if self._transposed else reductions.ColumnMass())

    def mean_distance(self) -> Inexact[Tensor, "batch time heads"]:
        """|alpha|-weighted mean of |i - j| for each row, in tokens: (batch, time, heads); NaN where a row is zero."""
        self._forward_only("mean_distance")
        return self._one(reductions.MeanDistance())

    def mass_by_lag(self) -> Inexact[Tensor, "batch heads time"]:
        """sum over rows of |alpha_{i, i-l}| for each lag l: (batch, heads, time)."""
        self._forward_only("mass_by_lag")
        return self._one(reductions.MassByLag())

    def top_k(self, k: int) -> tuple[Inexact[Tensor, "batch time heads k"], Int[Tensor, "batch time heads k"]]:
        """The k largest entries of each row by |alpha|: (values, indices), each (batch, time, heads, k).

        Where a row's support has fewer entries, index -1 and value 0.
        """
        self._forward_only("top_k")
        ((values, indices),) = self.reduce(reductions.TopK(k))
        return values, indices

    def heatmap(self, pixels: int, signed: bool = False) -> Inexact[Tensor, "batch heads pixels pixels"]:
        """Mean of |alpha| (signed: of alpha) in pixels x pixels cells: (batch, heads, pixels, pixels).

        With more pixels than tokens a coefficient fills several cells. Raises MemoryBudgetError before it starts if the
        map does not fit.
        """
        wanted = reductions.Heatmap(pixels, signed)
        pooled = linear.signed_map(self.dynamics, pixels) if signed and self._swept else self._one(wanted)
        return pooled.mT if self._transposed else pooled

    def reduce(
        self,
        *wanted: reductions.Reduction,
        progress: Callable[[float], None] | None = None,
        skip: float | None = None,
    ) -> list[Tensor | tuple[Tensor, Tensor]]:
        """Several summaries of ``mixerlens.operator.reductions`` in one pass over alpha, in the order given.

        skip: leave out tiles of linear readouts none of whose entries |alpha_ij| exceeds ``skip`` times the mass that
        row i has nearer by; each result is then (value, missing), missing an upper bound of what that takes from it
        (the value's own rounding is not in it). None computes everything.
        """
        self._forward_only("reduce")
        return reductions.reduce(self.dynamics, wanted, progress, skip)

    def state_rank(self, tol: float = 1e-6, cuts: int | str | Iterable[int] = 16) -> Int[Tensor, "batch heads"]:
        """Largest rank of alpha[t:, :t] over the cuts: (batch, heads) int.

        tol is relative to each block's largest singular value; a lower bound unless cuts="all". Compute in float64
        (``dynamics.to(torch.float64)``) for tolerances below 1e-6.
        """
        self._forward_only("state_rank")
        return rank.state_rank(self.dynamics, tol, cuts)

    def state_rank_bounds(
        self, tol: float = 1e-6, cuts: int | str | Iterable[int] = 16, probes: int = 64
    ) -> sketch.RankBounds:
        """(lower, upper) of ``state_rank`` over the same cuts, (batch, heads) int each, without holding alpha[t:, :t].

        Certified from ``probes`` random columns (see ``mixerlens.operator.sketch``): lower never exceeds their number,
        and upper is the size of the block where they are too few.
        """
        self._forward_only("state_rank_bounds")
        return sketch.bounds(self.dynamics, tol, cuts, probes)

    def _block(self, rows: Sequence[int], columns: Sequence[int] | slice) -> Tensor:
        d, tiles = self.dynamics, RowTiles(self.dynamics)
        by_chunk: dict[int, list[int]] = {}
        for position, i in enumerate(rows):
            by_chunk.setdefault(i // tiles.rows, []).append(position)
        pieces, order = [], []
        picked = range(d.time)[columns] if isinstance(columns, slice) else columns
        wanted = torch.tensor(list(picked), device=d.device)
        for positions in by_chunk.values():
            inside = [rows[p] for p in positions]
            lo, hi = min(inside), max(inside) + 1
            b = tiles.block(lo, hi)
            part = b.coefficients[:, :, [i - lo for i in inside], :]
            part = torch.nn.functional.pad(part, (b.first, d.time - b.last))
            pieces.append(part if isinstance(columns, slice) and columns == slice(None) else part[..., wanted])
            order += positions
        inverse = torch.empty(len(order), dtype=torch.long, device=d.device)
        inverse[torch.tensor(order, device=d.device)] = torch.arange(len(order), device=d.device)
        joined = torch.cat(pieces, -2)
        return joined if order == sorted(order) else joined[:, :, inverse]

    def _tiles(self, values: Tensor) -> Tensor:
        """Values as (batch, heads, time, value_dim), checked."""
        d = self.dynamics
        if not isinstance(values, Tensor):
            raise InputError(f"values are a {type(values).__name__}: give a torch.Tensor")
        if values.dim() != 4:
            raise InputError(f"values must be (batch, time, heads, value_dim), got shape {tuple(values.shape)}")
        batch, time, heads, _ = values.shape
        if time != d.time or d.heads % heads or (batch != d.batch and 1 not in (batch, d.batch)):
            raise InputError(
                f"values (batch {batch}, time {time}, heads {heads}) do not fit the mixer (batch {d.batch}, "
                f"time {d.time}, heads {d.heads}): batch and time must agree, and heads of values divide the mixer's"
            )
        if not (values.is_floating_point() or values.is_complex()):
            raise InputError(f"values are {values.dtype}: convert to a floating point dtype")
        tiles = spread(values.transpose(1, 2), d.heads)
        return tiles.expand(max(batch, d.batch), d.heads, -1, -1)

    def _forward_only(self, what: str) -> None:
        if self._transposed:
            raise UnsupportedError(
                f"{what} is defined on rows as queries: call it on the operator, not on its transpose"
            )

    @property
    def _swept(self) -> bool:
        """Scans answer for the coefficients: there is a state, and no derivative with respect to it is asked for."""
        return self.dynamics.recurrent and not any(recompute.wanted(d) for d, _ in self.dynamics.terms)

    def _one(self, reduction: reductions.Reduction) -> Tensor:
        (result,) = reductions.reduce(self.dynamics, [reduction])
        assert isinstance(result, Tensor)
        return result


def _positions(index: Index, time: int, what: str) -> list[int]:
    """Any index as a list of tokens, negative ones counted from the end."""
    if isinstance(index, slice):
        return list(range(time)[index])
    if isinstance(index, Tensor):
        index = torch.where(index)[0].tolist() if index.dtype == torch.bool else index.flatten().tolist()
    given: list[Any] = list(index) if isinstance(index, Iterable) and not isinstance(index, str) else [index]
    if not all(hasattr(i, "__index__") for i in given):
        raise InputError(f"{what} {index!r} is no token: give an int, a slice, or a list of ints")
    positions = [operator.index(i) for i in given]
    bad = [i for i in positions if not -time <= i < time]
    if bad or not positions:
        raise InputError(f"{what} {bad[0] if bad else '(none)'} does not exist: there are tokens 0 .. {time - 1}")
    return [i % time for i in positions]
