"""Where built libraries are kept: a folder of the user's own, in which nobody else can put anything."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from mixerlens.native.build import Uncached


def folder() -> Path:
    """``$XDG_CACHE_HOME/mixerlens/native``, or below ``~/.cache``. Raises Uncached where there is no home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            raise Uncached("no cache: no home directory") from None
    return base / "mixerlens" / "native"


def find(name: str) -> Path | None:
    """The library of this name, if it is there, nobody else could have written it, and it is whole.

    Raises Uncached where others can write the folder.
    """
    place = folder()
    path = place / name
    try:
        _private(place)
        for file in (path, _digest_of(path)):
            _own(file, stat.S_ISREG)
        whole = _digest_of(path).read_text().strip() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return None
    return path if whole else None


def keep(name: str, build: Callable[[Path], None]) -> Path:
    """Let ``build`` write a library of this name into the cache, all of it or nothing.

    Raises Uncached where the cache cannot be written or others can write it, and what ``build`` raises.
    """
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _private(place)
        handle, text = tempfile.mkstemp(dir=place, prefix=".building-")
        os.close(handle)
    except OSError as error:
        raise Uncached(f"cache {place}: {error.strerror or error}") from None
    new, path = Path(text), place / name
    try:
        build(new)
        new.chmod(0o700)
        digest = new.with_suffix(".sha256")
        digest.write_text(hashlib.sha256(new.read_bytes()).hexdigest() + "\n")
        digest.chmod(0o600)
        os.replace(digest, _digest_of(path))
        os.replace(new, path)
    except OSError as error:
        raise Uncached(f"cache {place}: {error.strerror or error}") from None
    finally:
        for left in (new, new.with_suffix(".sha256")):
            left.unlink(missing_ok=True)
    return path


def _digest_of(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _private(place: Path) -> None:
    """Raise Uncached unless the folder is ours alone and nobody else can put another one in its place."""
    _own(place, stat.S_ISDIR)
    for parent in place.resolve().parents:
        found = parent.stat()
        others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or others:
            raise Uncached(f"cache {place}: others can write {parent}")


def _own(path: Path, kind: Callable[[int], bool]) -> None:
    """Raise Uncached unless this is no link, of the wanted kind, and ours alone to write; OSError if missing."""
    found = path.lstat()
    if not kind(found.st_mode):
        raise Uncached(f"cache {path}: not what mixerlens puts there")
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Uncached(f"cache {path}: others can write it")
