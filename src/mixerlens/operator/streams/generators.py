"""What tiles are products of: emit and inject of windows that grow by merging neighbours, in float64.

    emit = [emit_left, emit_right carry_left],  inject = [carry_right inject_left, inject_right]

so the scores of any two neighbouring windows of equal length are emit_right inject_left^T.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixerlens.composition import Mixer, weigh
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.operator.apply import normalizer_rows
from mixerlens.operator.streams.maps import Maps, maps
from mixerlens.readout import RealPart
from mixerlens.shapes import wide


@dataclass(frozen=True, eq=False)
class Part:
    """One system's share of a block: emit and inject (batch, heads, windows, length, dim), wide, and its maps."""

    emit: Tensor
    inject: Tensor
    maps: Maps

    def merged(self) -> Part:
        """Windows two by two. The tensors of this part are used up."""
        windows = self.emit.shape[2]
        left, right = self.maps.halves(windows)
        emit, inject = (x.unflatten(2, (windows // 2, 2)) for x in (self.emit, self.inject))
        _set(emit[:, :, :, 1], left.rows(emit[:, :, :, 1]))
        _set(inject[:, :, :, 0], right.columns(inject[:, :, :, 0]))
        return Part(emit.flatten(3, 4), inject.flatten(3, 4), right.after(left))


def _set(place: Tensor, value: Tensor) -> None:
    place.copy_(value)


class Term:
    """One system of a mixer: its windows, with weight, readout and eta in what emits."""

    def __init__(self, d: CoefficientDynamics, weight: Tensor | None) -> None:
        self.dynamics = d
        one = torch.ones(1, 1, d.time, 1, dtype=torch.float64, device=d.device)
        rows = weigh(one / wide(normalizer_rows(d)), weight)
        self._rows = None if bool((rows == 1).all()) else rows

    def windows(self, lo: int, size: int, count: int) -> tuple[Tensor, Part]:
        """The tokens from lo on as ``count`` windows: intra (batch, heads, count, size, size) after the readout, and
        the generators. What lies beyond the last token is zero."""
        d, pieces = self.dynamics, []
        end = min(lo + size * count, d.time)
        if d.evolution.begins and lo == 0:  # the first window has an A_0 of its own
            pieces.append((0, min(size, end), 1))
            lo = min(size, end)
        whole = (end - lo) // size
        if whole:
            pieces.append((lo, size, whole))
        if lo + whole * size < end:
            pieces.append((lo + whole * size, end - lo - whole * size, 1))
        parts = [self._piece(*piece, size) for piece in pieces]
        found = sum(number for *_, number in pieces)
        intra, emit, inject = (torch.cat(x, 2) if len(x) > 1 else x[0] for x in list(zip(*parts, strict=True))[:3])
        carried = [(m, number) for (*_, m), (*_, number) in zip(parts, pieces, strict=True)]
        if found < count:
            beyond = (0, 0, 0, 0, 0, count - found)
            intra, emit, inject = (pad(x, beyond) for x in (intra, emit, inject))
            carried.append((Maps(carried[0][0].numbers.new_ones(1, 1, 1, 1)), count - found))
        return intra, Part(emit, inject, Maps.joined(carried, d.batch, d.heads))

    def _piece(self, lo: int, length: int, count: int, size: int) -> tuple[Tensor, Tensor, Tensor, Maps]:
        d = self.dynamics
        f = d.factors(lo, lo + length) if count == 1 else d.fold(lo, length, count).factors(0, length)
        fill = size - length

        def apart(x: Tensor, *trailing: int) -> Tensor:
            """(batch * count | 1, heads | 1, length, ...) -> (batch, heads, count, size, ...)."""
            x = x.unsqueeze(1) if x.shape[0] == 1 else x.unflatten(0, (-1, count))
            x = x.transpose(1, 2)
            return pad(x, (0, *trailing, 0, fill)).expand(d.batch, d.heads, count, -1, -1)

        intra, emit, inject = apart(d.readout(f.intra), fill), wide(apart(f.emit, 0)), wide(apart(f.inject, 0))
        if self._rows is not None:
            rows = self._rows[:, :, lo : lo + length * count]
            rows = pad(rows.unflatten(2, (count, length)), (0, 0, 0, fill))
            emit, intra = emit * rows, (intra * rows).to(intra.dtype)
        kind = wide(emit[:0, :0, :0, :0, :0]).dtype
        through = maps(f.carry, d.batch, d.heads, d.dim, count, emit)
        if through.numbers.is_complex():
            kind = torch.complex128
        return intra, _own(emit, kind), _own(inject, kind), through

    def cast(self, x: Tensor, dtype: torch.dtype, *, emits: bool) -> Tensor:
        """Generators as the tiles multiply them: real where the readout takes the real part of complex scores."""
        readout = self.dynamics.readout
        if isinstance(readout, RealPart):
            x = readout.scale * x if emits else x
            if x.is_complex():
                x = torch.cat([x.real, -x.imag if emits else x.imag], -1)
        return x.to(dtype)


def _own(x: Tensor, kind: torch.dtype) -> Tensor:
    """Contiguous memory of its own, which merging may write to."""
    return torch.empty(x.shape, dtype=kind, device=x.device).copy_(x)


@dataclass(frozen=True, eq=False)
class Square:
    """Neighbouring windows: rows of the right ones emit, columns of the left ones inject, in the working dtype."""

    emit: Tensor
    inject: Tensor


class Generators:
    """The generators of one mixer, block by block of ``size`` tokens = ``windows`` of ``chunk``."""

    def __init__(self, mixer: Mixer) -> None:
        self.mixer = mixer
        self.terms = [Term(d, weight) for d, weight in mixer.terms]
        self.dtype = mixer.coefficient_dtype
        self.grows = False

    def block(self, lo: int, chunk: int, windows: int) -> tuple[Tensor, list[Part]]:
        """intra (batch, heads, windows, chunk, chunk), after readout, weight and eta, and every term's generators."""
        found = [term.windows(lo, chunk, windows) for term in self.terms]
        self.grows = self.grows or any(part.maps.may_grow for _, part in found)
        return reduce(torch.add, (intra for intra, _ in found)), [part for _, part in found]

    def squares(self, parts: list[Part]) -> Iterator[Square]:
        """What lies between neighbouring windows, smallest first; ``parts`` grow to one window."""
        while parts[0].emit.shape[2] > 1:
            right = [part.emit[:, :, 1::2] for part in parts]
            left = [part.inject[:, :, 0::2] for part in parts]
            yield self.square(right, left)
            parts[:] = [part.merged() for part in parts]

    def square(self, emit: list[Tensor], inject: list[Tensor]) -> Square:
        """Cast to the working dtype, each state dimension measured in units of its largest inject: in float32 what
        grows on one side and shrinks on the other would leave its range."""
        if self.dtype.itemsize == torch.finfo(self.dtype).bits // 8 and self.dtype in (torch.float32, torch.complex64):
            units = [x.abs().amax(-2, keepdim=True) for x in inject]
            units = [torch.where((u > 0) & torch.isfinite(u), u, 1) for u in units]
            emit = [x * u for x, u in zip(emit, units, strict=True)]
            inject = [x / u for x, u in zip(inject, units, strict=True)]
        return Square(self._cast(emit, emits=True), self._cast(inject, emits=False))

    def _cast(self, parts: list[Tensor], *, emits: bool) -> Tensor:
        cast = [term.cast(x, self.dtype, emits=emits) for term, x in zip(self.terms, parts, strict=True)]
        return cast[0] if len(cast) == 1 else torch.cat(cast, -1)
