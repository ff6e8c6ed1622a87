"""Resident memory of this process: its high-water mark, and pages that are there before they are asked for."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.machine import available

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
ROOM = 1.25  # times what a way touched


def give_back() -> None:
    """Memory that was freed goes back to the system, so that using it again is counted again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def mark() -> int:
    """Resident bytes now, with the high-water mark set back to them where the system lets us."""
    try:
        RESET.write_text("5")
        return _field("VmRSS")
    except OSError:
        return peak()  # the mark so far: what stays below it is not seen


def peak() -> int:
    try:
        return _field("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _field(name: str) -> int:
    return int(re.findall(rf"{name}:\s+(\d+) kB", STATUS.read_text())[0]) * 1024


class Backed:
    """Turns in which fresh pages cost what the system takes for them, and nothing beyond.

    In a virtual machine that gives free memory back, the host may have to find a page again when it is first touched:
    128 MiB then take anything from 25 to 300 ms, by chance. So as much fresh memory as a way took in its turns so far
    is touched and freed right before its next one, untimed, in small pages and in large ones, which the system keeps
    apart. It comes from the system and goes back there, past malloc: freeing large tensors would make malloc keep
    smaller ones from then on, and a timed call would find its memory there.
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    @contextlib.contextmanager
    def turn(self, name: str) -> Iterator[None]:
        for large in (False, True):
            touch(int(ROOM * self._taken.get(name, 0)), large)
        before = mark()
        yield
        self._taken[name] = max(peak() - before, self._taken.get(name, 0))


def touch(count: int, large: bool) -> None:
    """So many bytes in pages of their own, at most a quarter of what is free."""
    count = min(count, available() // 4)
    if not count:
        return
    with mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        if large and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):
                pages.madvise(mmap.MADV_HUGEPAGE)
        for first in range(0, count, mmap.PAGESIZE):
            pages[first] = 0
