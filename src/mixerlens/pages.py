"""Large fresh tensors in large pages, where the system has them on request.

Memory is handed out page by page as it is first touched, 4 KiB each: 33,000 faults for 128 MiB, three times what it
takes to fill them, more in a virtual machine. Linux has pages of 2 MiB for memory that asks for them (its usual mode,
`madvise`). Asking changes no number and takes no memory beyond the tensor's own; where it is not possible nothing
happens.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

LEAST = 4 * 2**20  # bytes of a tensor for which it is worth a system call
_LINE = 64  # bytes of a cache line: what torch itself aligns memory to
_HUGEPAGE = 14  # MADV_HUGEPAGE
_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def empty(*shape: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """``torch.empty``, in large pages where that is possible."""
    x = torch.empty(shape, dtype=dtype, device=device)
    if real(x) and x.device.type == "cpu":
        _ask(x.data_ptr(), x.nbytes)
    return x


def real(x: Tensor) -> bool:
    """Whether x has memory and numbers now: not where it only stands for a tensor, as while a program is compiled."""
    return type(x) is Tensor and not torch.compiler.is_compiling()


def zeros(*shape: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """``torch.zeros``; on a CPU the system clears a page when it is first touched, and nothing is written here."""
    meant = torch.empty(shape, dtype=dtype, device="meta")
    on = torch.get_default_device() if device is None else device
    if not real(meant) or on.type != "cpu" or not meant.nbytes:
        return torch.zeros(shape, dtype=dtype, device=device)
    held = np.zeros(meant.nbytes + _LINE, np.uint8)
    first = -held.ctypes.data % _LINE
    _ask(held.ctypes.data, held.nbytes)
    return torch.from_numpy(held[first : first + meant.nbytes]).view(dtype).view(shape)


def _ask(address: int, count: int) -> None:
    """Large pages for the whole pages within these bytes."""
    if count < LEAST or (found := _found()) is None:
        return
    advise, page = found
    low, high = -(-address // page) * page, (address + count) // page * page
    advise(low, high - low, _HUGEPAGE)  # it may refuse: then the pages are small


@cache
def _found() -> tuple[Callable[[int, int, int], int], int] | None:
    """madvise and the size of a page, where large pages come on request."""
    try:
        if not sys.platform.startswith("linux") or "[madvise]" not in _MODE.read_text():
            return None
        import resource

        advise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    advise.argtypes, advise.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    return advise, resource.getpagesize()
