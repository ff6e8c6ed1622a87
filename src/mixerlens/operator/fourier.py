"""Spectra of a few channels at a time, padded so that nothing wraps around."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_CACHE = 1 << 21  # bytes of transforms that stay in a second-level cache
_LARGEST = 1 << 24  # bytes of transforms at once
_SHARE = 8  # transforms that share a plan: making one costs as much as a few transforms
_ROWS = 512  # tokens transposed at once: more and the strided reads drive each other out of the cache
_ODD = (1, 3, 5, 7, 9, 15, 25)  # times a power of two: sizes with a fast transform

Part = Callable[[Tensor], Tensor]


def size_for(time: int) -> int:
    """The least fast size of at least 2 time - 1, where a convolution of two signals of this length fits."""
    least = max(2 * time - 1, 2)
    return min(odd << max((-(-least // odd) - 1).bit_length(), 1) for odd in _ODD)


class Fourier:
    """Transforms of signals of ``time`` tokens, real or complex as dtype is."""

    def __init__(self, time: int, dtype: torch.dtype) -> None:
        self.time, self.size, self.complex = time, size_for(time), dtype.is_complex
        one = self.size * dtype.itemsize
        self._buffers: dict[tuple[int, int, int], Tensor] = {}
        self.count = max(1, min(max(_SHARE, _CACHE // one), _LARGEST // one))

    def parts(self, batch: int, heads: int, m: int) -> Iterator[Part]:
        """Selections of (batch, heads, ..., m) that hold ``count`` signals at most; an axis of 1 broadcasts."""
        width = min(m, self.count)
        rows = min(batch, self.count // width)
        tall = max(1, self.count // (width * rows))
        for h in range(0, heads, tall):
            for b in range(0, batch, rows):
                for c in range(0, m, width):
                    yield _selection(slice(b, b + rows), slice(h, h + tall), slice(c, c + width))

    def spectrum(self, signal: Tensor, conjugate: bool = False) -> Tensor:
        """(batch, heads, time, m) -> (batch, heads, m, frequencies), a fresh tensor."""
        batch, heads, time, m = signal.shape
        padded = self._buffers.get((batch, heads, m))
        if padded is None:  # what lies behind the signal is zero from the start and never written
            padded = self._buffers[batch, heads, m] = signal.new_zeros(batch, heads, m, self.size)
        for lo in range(0, time, _ROWS):
            hi = min(lo + _ROWS, time)
            padded[..., lo:hi] = signal[..., lo:hi, :].mT
        made = torch.fft.fft(padded) if self.complex else torch.fft.rfft(padded)
        return made.conj_physical_() if conjugate else made

    def signal(self, spectrum: Tensor) -> Tensor:
        """(batch, heads, m, frequencies) -> (batch, heads, time, m)."""
        made = torch.fft.ifft(spectrum) if self.complex else torch.fft.irfft(spectrum, self.size)
        return made[..., : self.time].mT


def _selection(batch: slice, heads: slice, m: slice) -> Part:
    every = slice(None)

    def part(x: Tensor) -> Tensor:
        b, h, c = (
            every if size == 1 else chosen
            for size, chosen in zip((x.shape[0], x.shape[1], x.shape[3]), (batch, heads, m), strict=True)
        )
        return x[b, h, :, c]

    return part
