"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from .errors import InputError


class WriteError(InputError, OSError):
    """A file could not be written: the disk is full, the folder went away, or it takes no new files."""


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Refuse an output path that cannot be written, before anything long has run; returns it as a ``Path``.

    Raises:
        InputError: the folder does not exist, the path is no ordinary file, or writing there is not allowed.
    """
    path = Path(path)
    folder = path.parent
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {path}: it is a {'folder' if path.is_dir() else 'device'}; give a file name")
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"cannot write {path}: permission denied")
    return path


def write_whole(path: str | os.PathLike[str], write: str | Callable[[Path], object]) -> Path:
    """Write a file so that it is either the old one or the complete new one, also when interrupted; returns it.

    write: the text, or a function that writes the path it is given.

    Raises:
        InputError: as ``check_writable``.
        WriteError: the disk is full or the folder takes no files; nothing is left behind then.
    """
    target = check_writable(path).resolve()  # a link stays a link
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if isinstance(write, str):
            temporary.write_text(write, encoding="utf-8")
        else:
            write(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # it names the temporary file, which nobody asked for
            raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
        raise
    return target
