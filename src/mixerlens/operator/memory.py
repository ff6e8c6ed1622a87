"""How much memory one request may take, decided before it starts."""

from __future__ import annotations

import os

import torch

from mixerlens.errors import InputError, MemoryBudgetError

_VARIABLE = "MIXERLENS_MEMORY_BUDGET"
TEMPORARY = 32 * 2**20  # bytes: above this a fresh temporary costs page faults (6-9x)


def budget() -> int:
    """Bytes one request may hold: MIXERLENS_MEMORY_BUDGET, or half of the memory that is free now."""
    given = os.environ.get(_VARIABLE)
    if given is not None:
        try:
            return int(given)
        except ValueError:
            raise InputError(f"{_VARIABLE} is {given!r}: give a whole number of bytes") from None
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return free // 2


def require(what: str, *shape: int, dtype: torch.dtype, copies: int = 1, instead: str) -> None:
    """Raise MemoryBudgetError unless ``copies`` tensors of this shape fit the budget."""
    need = copies * dtype.itemsize
    for n in shape:
        need *= n
    have = budget()
    if need > have:
        raise MemoryBudgetError(
            f"{what} needs {need} bytes ({need / 2**30:.1f} GiB) for {'x'.join(map(str, shape))} {dtype}, "
            f"the budget is {have} bytes: {instead}, or raise {_VARIABLE}"
        )
