"""Finding the shared library, once a process: prebuilt beside this file, in the user's cache, or built now."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mixerlens.native import cache
from mixerlens.native.build import SOURCE, Unavailable, Uncached, compiler, key, levels, source_hash

SWITCH = "MIXERLENS_NATIVE"
OFF = ("0", "false", "off", "no")  # values that turn the library off
PREBUILT = Path(__file__).with_name("kernels.so")


@dataclass(frozen=True, eq=False)
class Library:
    """A loaded library. level: the number of the instruction set it uses; origin: "prebuilt", "cache", "built", or
    "temporary" where it could not be kept; compiler: None where it was prebuilt; note: why it could not be kept."""

    handle: ctypes.CDLL
    level: int
    origin: str
    path: Path
    compiler: str | None = None
    note: str | None = None

    @property
    def instructions(self) -> str:
        return self.handle.mixerlens_level(self.level).decode()

    def lanes(self, wide: bool) -> int:
        """Channels that are computed at once, in float64 if wide."""
        return self.handle.mixerlens_lanes(self.level, wide)


@dataclass(frozen=True)
class Status:
    """Whether the library is used. reason: why not, one line. library: its file's name; note: why it is not kept."""

    active: bool
    reason: str | None = None
    instructions: str | None = None
    origin: str | None = None
    compiler: str | None = None
    library: str | None = None
    note: str | None = None


_lock = threading.Lock()
_found: Library | Unavailable | None = None
_local = threading.local()


@contextmanager
def without() -> Iterator[None]:
    """Inside, this thread takes the torch path."""
    before, _local.off = getattr(_local, "off", False), True
    try:
        yield
    finally:
        _local.off = before


def _switched_off() -> bool:
    return os.environ.get(SWITCH, "").strip().lower() in OFF


def library() -> Library | None:
    """The library, looked for once and built if need be; None where it is off or cannot be had."""
    if _switched_off() or getattr(_local, "off", False):
        return None
    if _found is None:
        _look()
    return _found if isinstance(_found, Library) else None


def status() -> Status:
    """Looks for the library, if that was not done yet, and says what became of it."""
    if _switched_off():
        return Status(False, f"{SWITCH}={os.environ[SWITCH].strip()}")
    if _found is None:
        _look()
    if not isinstance(_found, Library):
        return Status(False, str(_found))
    f = _found
    return Status(True, None, f.instructions, f.origin, f.compiler, f.path.name, f.note)


def _look() -> None:
    global _found
    with _lock:
        if _found is None:
            try:
                _found = _find()
            except Unavailable as error:
                _found = error
            except OSError as error:  # whatever it is, the torch path does the work
                _found = Unavailable(" ".join(str(error).split()))


def _find() -> Library:
    if os.name != "posix":
        raise Unavailable(f"not on {os.name}: the library needs POSIX threads")
    if PREBUILT.exists():
        try:
            return load(PREBUILT, "prebuilt")
        except Unavailable:  # built for another machine or from another source
            pass
    by, wanted = compiler(), levels()
    name, build = f"kernels-{key(by, wanted)}.so", partial(by.build, wanted)
    shown = " ".join(by.command)
    try:
        return _cached(name, build, shown)
    except Uncached as error:
        note = str(error)
    place = Path(tempfile.mkdtemp(prefix="mixerlens-"))  # ours alone
    try:
        build(place / name)
        return load(place / name, "temporary", shown, note)
    finally:
        shutil.rmtree(place, ignore_errors=True)  # a loaded library stays


def _cached(name: str, build: Callable[[Path], None], by: str) -> Library:
    path = cache.find(name)
    if path is not None:
        try:
            return load(path, "cache", by)
        except Unavailable:  # it cannot be used here: build it again
            pass
    path = cache.keep(name, build)
    try:
        return load(path, "built", by)
    except Unavailable as error:
        raise Uncached(f"cache {path.parent}: {error}") from None  # on a disk that runs no programs, say


def load(path: Path, origin: str, by: str | None = None, note: str | None = None, level: int | None = None) -> Library:
    """Load a library and see that it fits its source, the machine and the floating-point rules it was written for.

    Raises Unavailable.
    """
    try:
        handle = ctypes.CDLL(str(path))
        for name in ("mixerlens_source", "mixerlens_level"):
            getattr(handle, name).restype = ctypes.c_char_p
        handle.mixerlens_exp2.argtypes = [ctypes.c_int] * 2 + [ctypes.c_void_p] * 2 + [ctypes.c_int64]
        for name in ("mixerlens_scan_forward", "mixerlens_scan_backward"):
            getattr(handle, name).argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
        built_from = handle.mixerlens_source().decode()
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{path.name} cannot be loaded: {' '.join(str(error).split())}") from None
    if built_from != source_hash():
        raise Unavailable(f"{path.name} was built from another {SOURCE.name}")
    usable = [n for n in range(handle.mixerlens_levels()) if handle.mixerlens_level(n) is not None]
    if level is None and usable:
        level = usable[0]
    if level not in usable:
        raise Unavailable(f"{path.name} was built for another processor")
    assert level is not None
    found = Library(handle, level, origin, path, by, note)
    _try(found)
    return found


def _try(found: Library) -> None:
    """Raise Unavailable where the powers of two are wrong: a compiler that does not keep to IEEE 754 makes them so."""
    for kind, wide, lowest in ((ctypes.c_float, False, -149), (ctypes.c_double, True, -1074)):
        given = (0.0, -1.0, 0.5, lowest / 2, -2000.0, -math.inf, math.inf, math.nan)
        x, y = (kind * len(given))(*given), (kind * len(given))()
        found.handle.mixerlens_exp2(found.level, wide, x, y, len(given))
        for a, b in zip(given, y, strict=True):
            want = kind(math.inf if a == math.inf else math.pow(2.0, a)).value
            if not (math.isclose(b, want, rel_tol=1e-14 if wide else 3e-7) or (math.isnan(a) and math.isnan(b))):
                raise Unavailable(f"{found.path.name}: the compiler made 2^{a} be {b}")
