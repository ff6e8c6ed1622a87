"""The one equation: a token mixer as coefficients that evolve.

    u_{j,j} = b_j k_j                       an impulse enters at token j
    u_{i,j} = A_i u_{i-1,j}   for i > j     then evolves on its own
    alpha_ij = phi(q_i^T u_{i,j}) / eta_i   and is read by query i
    y_i = sum_j alpha_ij v_j

A_j is not applied to the impulse that enters at j. Background: arXiv 2510.09389 (coefficient dynamics); the equations
are our own derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.evolution import Evolution, Factors, Identity
from mixerlens.normalizer import NoNormalizer, Normalizer, RowSumFloor
from mixerlens.readout import Identity as IdentityReadout
from mixerlens.readout import Readout
from mixerlens.shapes import at, common, fold, spread, take_heads, take_tokens, tile, working
from mixerlens.support import Support

if TYPE_CHECKING:
    from mixerlens.operator import CoefficientOperator


@dataclass(frozen=True, eq=False)
class CoefficientDynamics:
    """A token mixer, given by its parts.

    query, key: (batch, time, heads, dim). Size 1 on batch, time or heads broadcasts, and head groups may divide the
        heads (head h uses group h // (heads / groups)); real or complex.
    evolution: the maps A_t.
    scaling: b, (batch | 1, time | 1, heads | 1), default 1.
    readout: phi. normalizer: eta. support: the pairs (i, j) summed over.
    length: number of tokens, needed only where nothing else carries a time axis.

    Raises InputError when sizes do not fit together, a tensor holds NaN, a bidirectional support meets an evolution
    other than the identity (there is no recurrence to run backwards), or the readout is undefined on complex scores.
    """

    query: Inexact[Tensor, "#batch #time groups dim"]
    key: Inexact[Tensor, "#batch #time groups dim"]
    evolution: Evolution = field(default_factory=Identity)
    scaling: Inexact[Tensor, "#batch #time #heads"] | None = None
    readout: Readout = field(default_factory=IdentityReadout)
    normalizer: Normalizer = field(default_factory=NoNormalizer)
    support: Support = field(default_factory=Support)
    length: int | None = None

    def __post_init__(self) -> None:
        for name in ("query", "key"):
            x: Tensor = getattr(self, name)
            if x.dim() != 4 or 0 in x.shape:
                raise InputError(f"{name} must be (batch, time, heads, dim) and not empty, got {tuple(x.shape)}")
            _refuse_nan(name, x)
            object.__setattr__(self, name, x.to(working(x.dtype)))
        if self.scaling is not None:
            if self.scaling.dim() != 3:
                raise InputError(f"scaling must be (batch, time, heads), got {tuple(self.scaling.shape)}")
            _refuse_nan("scaling", self.scaling)
        if self.query.shape[-1] != self.key.shape[-1]:
            raise InputError(f"query has {self.query.shape[-1]} dimensions, key has {self.key.shape[-1]}")
        self.evolution.check(self.query.shape[-1])
        if not self.support.causal and not isinstance(self.evolution, Identity):
            raise InputError(
                f"a bidirectional support needs the identity evolution, not {type(self.evolution).__name__}: "
                "turn positions into query and key, or use one causal system per direction"
            )
        if self.dtype.is_complex and self.readout.needs_real:
            raise InputError(f"readout {self.readout} is undefined on complex scores: take RealPart, or real inputs")
        if isinstance(self.normalizer, RowSumFloor) and not self.readout.linear:
            raise InputError(f"a floor under the row sum is defined for linear readouts, not for {self.readout}")
        _ = self.batch, self.time, self.heads
        self.evolution.check_length(self.time)

    def __repr__(self) -> str:
        kinds = f"{type(self.evolution).__name__} evolution, {type(self.readout).__name__} readout"
        size = f"batch {self.batch}, heads {self.heads}, time {self.time}, dim {self.dim}"
        return f"{type(self).__name__}({size}; {kinds})"

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int, int]]:
        named = {"query": self.query, "key": self.key, "scaling": self.scaling}
        sizes = {name: (x.shape[0], x.shape[1], x.shape[2]) for name, x in named.items() if x is not None}
        sizes |= self.evolution.sizes() | self.normalizer.sizes()
        if self.support.segments is not None:
            batch, time = self.support.segments.shape
            sizes["segments"] = (batch, time, 1)
        if self.length is not None:
            sizes["length"] = (1, self.length, 1)
        return sizes

    @cached_property
    def batch(self) -> int:
        return common("batch", {name: s[0] for name, s in self._sizes.items()})

    @cached_property
    def time(self) -> int:
        return common("time", {name: s[1] for name, s in self._sizes.items()})

    @cached_property
    def heads(self) -> int:
        heads = common("heads", {name: s[2] for name, s in self._sizes.items()}, groups=True)
        # what may be shared by a group of heads; the rest is 1 or a head each
        grouped = ("query", "key", "direction", "left", "right")
        single = {name: s[2] for name, s in self._sizes.items() if name.split()[-1] not in grouped}
        common("heads", single | {"all heads": heads})
        small, large = sorted(self._sizes[name][2] for name in ("query", "key"))
        if large % small:
            raise InputError(f"head groups of query and key, {small} and {large}, must divide one another")
        return heads

    @property
    def dim(self) -> int:
        """Size of the state that one impulse lives in."""
        return self.query.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the scores, before the readout."""
        dtype = torch.promote_types(self.query.dtype, self.key.dtype)
        has_complex = self.evolution.is_complex or (self.scaling is not None and self.scaling.is_complex())
        return dtype.to_complex() if has_complex and not dtype.is_complex else dtype

    @property
    def coefficient_dtype(self) -> torch.dtype:
        """dtype of alpha, after the readout."""
        return self.readout(torch.zeros(1, dtype=self.dtype)).dtype

    @property
    def device(self) -> torch.device:
        return self.query.device

    @property
    def terms(self) -> tuple[tuple[CoefficientDynamics, None]]:
        """The mixer as a sum of one, unweighted; see `mixerlens.composition`."""
        return ((self, None),)

    @property
    def causal(self) -> bool:
        """No row sees a later column."""
        return self.support.causal

    @property
    def recurrent(self) -> bool:
        """A state of dim x value_dim numbers a head carries the past exactly."""
        return self.readout.linear and self.support.recurrent

    @property
    def time_invariant(self) -> bool:
        """alpha_ij depends on i - j only."""
        parts = [self.query, self.key] + ([] if self.scaling is None else [self.scaling])
        return (
            self.evolution.time_invariant
            and all(x.shape[1] == 1 for x in parts)
            and self.support.causal
            and self.support.segments is None
            and type(self.normalizer) is NoNormalizer
        )

    def factors(self, lo: int, hi: int) -> Factors:
        """The evolution's generators of the chunk lo <= t < hi with the scaling b in; heads or 1 on the head axis."""
        query, key = (tile(x, lo, hi).to(self.dtype) for x in (self.query, self.key))
        known = max([query.shape[1], key.shape[1], *(s[2] for s in self.evolution.sizes().values())])
        if 1 < known < self.heads:  # groups, and only the scaling or the normaliser has the heads
            query = spread(query, self.heads).expand(-1, self.heads, -1, -1)
        f = self.evolution.factors(query, key, lo, hi)
        intra, emit, inject = (spread(x, self.heads) for x in (f.intra, f.emit, f.inject))
        if self.scaling is not None:
            b = tile(self.scaling, lo, hi).to(self.dtype)
            intra, inject = intra * b.unsqueeze(-2), inject * b.unsqueeze(-1)
        return Factors(intra, emit, inject, f.carry)

    def impulse(self, j: int) -> Inexact[Tensor, "batch time heads dim"]:
        """The impulse response u_{i,j} of token j at every later token i: (batch, time, heads, dim), 0 for i < j.

        Segments and windows belong to the support, so the impulse runs on to the end. Raises InputError for j outside
        0 .. time - 1.
        """
        if not 0 <= j < self.time:
            raise InputError(f"token {j} does not exist: the sequence has tokens 0 .. {self.time - 1}")
        state = spread(at(self.key, j), self.heads).to(self.dtype).expand(self.batch, self.heads, -1)
        if self.scaling is not None:
            state = at(self.scaling, j).to(self.dtype).unsqueeze(-1) * state
        state = state.unsqueeze(-1)
        states = [torch.zeros_like(state)] * j + [state]
        for t in range(j + 1, self.time):
            state = self.evolution.step(state, t)
            states.append(state)
        return torch.stack(states, 1).squeeze(-1)

    def operator(self, head: int | None = None) -> CoefficientOperator:
        """alpha as an operator on values, for all heads or for one (the head axis stays, with size 1)."""
        from mixerlens.operator import CoefficientOperator

        if head is None:
            return CoefficientOperator(self)
        if not -self.heads <= head < self.heads:
            raise InputError(f"head {head} does not exist: there are {self.heads} heads")
        return CoefficientOperator(self.select_heads([head % self.heads]))

    def select_heads(self, heads: Sequence[int]) -> CoefficientDynamics:
        """The same mixer with the given heads only."""
        index, count = list(heads), self.heads
        if len(index) == count and index == list(range(count)):
            return self
        # at least one part must go on saying how many heads there are
        query = take_heads(self.query, index, count).expand(-1, -1, len(index), -1)
        scaling = None if self.scaling is None else take_heads(self.scaling, index, count)
        return replace(
            self,
            query=query,
            key=take_heads(self.key, index, count),
            evolution=self.evolution.take_heads(index, count),
            scaling=scaling,
            normalizer=self.normalizer.take_heads(index, count),
        )

    def select_tokens(self, start: int, stop: int) -> CoefficientDynamics:
        """The same mixer on the tokens start <= t < stop only, as if they came first: what came before is its state.

        Raises InputError for a range that is empty or goes beyond the sequence.
        """
        if not 0 <= start < stop <= self.time:
            raise InputError(f"tokens {start} .. {stop} are no range of the {self.time} tokens of this sequence")
        segments = self.support.segments
        kept = None if segments is None else segments[:, start:stop]
        return replace(
            self,
            query=take_tokens(self.query, start, stop),
            key=take_tokens(self.key, start, stop),
            evolution=self.evolution.take_tokens(start, stop),
            scaling=None if self.scaling is None else take_tokens(self.scaling, start, stop),
            normalizer=self.normalizer.take_tokens(start, stop),
            support=replace(self.support, segments=kept),
            length=stop - start,
        )

    def fold(self, lo: int, size: int, count: int) -> CoefficientDynamics:
        """The tokens from lo on as ``count`` windows of ``size``, side by side on the batch axis, batch by batch.

        What the chunks of a scan are made of in one call: ``fold(lo, size, count).factors(0, size)``. Support and
        normaliser, which are not theirs to say, are left out. Where the evolution ``begins``, lo must not be 0.
        """

        def windows(x: Tensor) -> Tensor:
            return fold(x, self.batch, lo, size, count)

        def rows(x: Tensor) -> Tensor:  # in memory as products want it, heads before time
            return windows(x).transpose(1, 2).contiguous().transpose(1, 2)

        folded = CoefficientDynamics(
            query=rows(self.query),
            key=rows(self.key),
            evolution=self.evolution.fold(self.batch, lo, size, count),
            scaling=None if self.scaling is None else windows(self.scaling),
            readout=self.readout,
            length=size,
        )
        if 1 < folded.heads < self.heads:  # only the normaliser has the heads
            return replace(folded, query=spread(folded.query, self.heads, 2))
        return folded

    def map(self, change: Callable[[Tensor], Tensor]) -> CoefficientDynamics:
        """The same mixer with query, key, scaling and every parameter of the evolution changed, in this order."""
        return replace(
            self,
            query=change(self.query),
            key=change(self.key),
            scaling=None if self.scaling is None else change(self.scaling),
            evolution=self.evolution.map(change),
        )

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> CoefficientDynamics:
        """Cast to float32 or float64 (complex parts to the complex dtype of that precision) or move to a device.

        Raises InputError where a number is too large for the precision asked for, or, under a row sum, too small for
        it: a row of such numbers would be divided by a sum that has vanished.
        """
        if dtype is not None and dtype not in (torch.float32, torch.float64):
            raise InputError(f"cast to float32 or float64, not {dtype}: complex parts follow")
        small_counts = self.normalizer.row_sum and not self.readout.exponential

        def move(name: str, x: Tensor) -> Tensor:
            target = dtype.to_complex() if dtype is not None and x.is_complex() else dtype
            moved = x.to(device=device, dtype=target)
            if moved.dtype.itemsize < x.dtype.itemsize:
                _refuse_loss(name, x, moved, small_counts)
            return moved

        return replace(
            self,
            query=move("query", self.query),
            key=move("key", self.key),
            evolution=self.evolution.to(dtype=dtype, device=device),
            scaling=None if self.scaling is None else move("scaling", self.scaling),
            normalizer=self.normalizer.to(dtype=dtype, device=device),
            support=self.support if device is None else self.support.to(torch.device(device)),
        )

    def detach(self) -> CoefficientDynamics:
        """The same numbers without their autograd history."""
        return replace(
            self,
            query=self.query.detach(),
            key=self.key.detach(),
            evolution=self.evolution.detach(),
            scaling=None if self.scaling is None else self.scaling.detach(),
            normalizer=self.normalizer.detach(),
        )


def _refuse_loss(name: str, x: Tensor, narrow: Tensor, small_counts: bool) -> None:
    """Raise InputError where a cast has overflowed, or emptied what a row sum would have to divide by."""
    size, limits = x.abs(), torch.finfo(narrow.dtype)
    lost = torch.isfinite(size) & (size > limits.max)
    if small_counts:
        lost = lost | ((size > 0) & (size < limits.tiny))
    if bool(lost.any()):
        worst = float(size[lost][0])
        raise InputError(f"{name} holds {worst:.3g}, which {narrow.dtype} does not: stay in {x.dtype}")


def _refuse_nan(name: str, x: Tensor) -> None:
    if bool(torch.isnan(x.detach().sum())) and bool(torch.isnan(x).any()):  # a sum is the cheaper question
        raise InputError(f"{name} holds NaN first at {torch.isnan(x).nonzero()[0].tolist()} (batch, time, heads, ...)")
