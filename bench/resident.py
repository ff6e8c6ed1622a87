"""Resident memory of this process: its high-water mark, and pages that are there before they are asked for."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from mixerlens import pages

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
    128 MiB then take anything from 25 to 300 ms, by chance. So as much as a way touched in its turns so far is touched
    and freed right before its next one, untimed, in small pages and in large ones, which the system keeps apart. It
    still hands out and clears every page in the timed call.
    """

    def __init__(self) -> None:
        self._touched: dict[str, int] = {}

    @contextlib.contextmanager
    def turn(self, name: str) -> Iterator[None]:
        count = int(ROOM * self._touched.get(name, 0))
        for empty in (torch.empty, pages.empty):
            empty(count, dtype=torch.uint8).fill_(0)
        before = mark()
        yield
        self._touched[name] = max(peak() - before, self._touched.get(name, 0))
