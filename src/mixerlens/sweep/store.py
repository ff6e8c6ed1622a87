"""The folder of a sweep: one file a finished run, a lock, and the table of all runs as Parquet.

    FOLDER/runs/ID.json     a run's configuration and row, with a checksum, written whole and flushed to the disk
    FOLDER/results.parquet  the rows of the sweep that finished last, in its order
    FOLDER/.lock            held while a sweep is at work; the system frees it when its process ends, however it ends

A run's file counts only if it is whole, carries its own checksum, and its configuration is the one asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, UnsupportedError
from ..files import write_whole
from .config import COLUMNS, RunConfig, canonical

__all__ = ["Store", "flush_folder", "flushed", "make_folder", "read", "write_table"]

TABLE = "results.parquet"


class Store:
    """The runs below a folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.runs = self.folder / "runs"

    def prepare(self) -> None:
        """Make the folder. Raises InputError where it cannot be made or takes no files."""
        for folder in (self.folder, self.runs):
            make_folder(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Alone in the folder. Raises InputError while another sweep is at work there."""
        import fcntl

        self.prepare()
        try:
            file = open(self.folder / ".lock", "a+")  # noqa: SIM115 - closed below, which frees the lock
        except OSError as error:
            raise InputError(f"cannot write below {self.folder}: {error.strerror or error}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                who = file.read().strip() or "of unknown number"
                raise InputError(
                    f"another sweep is at work in {self.folder} (process {who}); wait for it or give another folder"
                ) from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def path(self, config: RunConfig) -> Path:
        return self.runs / f"{config.id}.json"

    def put(self, config: RunConfig, row: dict[str, Any]) -> None:
        """Store a finished run. Raises WriteError where the disk is full or the folder takes no files."""
        body = {"key": config.key, "row": row}
        text = canonical(body | {"sha256": _digest(body)}) + "\n"
        write_whole(self.path(config), lambda part: flushed(part, text.encode()))
        flush_folder(self.runs)

    def get(self, config: RunConfig) -> dict[str, Any] | None:
        """A stored row, None where there is none. Raises ValueError where there is a file that does not count."""
        try:
            text = self.path(config).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise ValueError("no text") from error
        except OSError as error:
            raise ValueError(error.strerror or str(error)) from error
        found = json.loads(text)
        if not isinstance(found, dict) or found.keys() != {"key", "row", "sha256"}:
            raise ValueError("no run of a sweep")
        if found.pop("sha256") != _digest(found):
            raise ValueError("its checksum is wrong")
        if older := _missing(found, config):
            raise ValueError(f"it was written by an earlier version: {', '.join(older)} missing")
        if found["key"] != config.key or found["row"].keys() != COLUMNS.keys() or found["row"]["id"] != config.id:
            raise ValueError("it is about another run")
        return found["row"]

    def rows(self, configs: Iterable[RunConfig]) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """The stored rows by id, and a line for every file that does not count: its run is to be computed again."""
        found, refused = {}, []
        for config in configs:
            try:
                row = self.get(config)
            except ValueError as error:
                reason = " ".join(str(error).split())
                refused.append(f"{self.path(config)} does not count, its run is to be computed again: {reason}")
                continue
            if row is not None:
                found[config.id] = row
        return found, refused

    def finish(self, rows: Sequence[dict[str, Any]]) -> Path:
        """Write the table of a sweep's rows beside the runs; its path."""
        return write_table(self.folder / TABLE, rows)


def make_folder(folder: Path) -> None:
    """Make a folder that files are to be written to. Raises InputError where it cannot be made or takes no files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write below {folder}: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write below {folder}: permission denied")


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A Parquet file with the columns of `COLUMNS`. Raises UnsupportedError without pyarrow, WriteError as ``put``."""
    pyarrow = need_pyarrow()
    import pyarrow.parquet as parquet

    types = {"string": pyarrow.string(), "int64": pyarrow.int64(), "double": pyarrow.float64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)

    def write(part: Path) -> None:
        parquet.write_table(table, part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())

    write_whole(path, write)
    flush_folder(path.parent)
    return path


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a sweep's folder, or of its table. Raises InputError where there is none, or it is none of ours."""
    need_pyarrow()
    import pyarrow.parquet as parquet

    path = Path(path)
    path = path / TABLE if path.is_dir() else path
    try:
        rows = parquet.read_table(path, memory_map=False).to_pylist()
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no table of a finished sweep") from error
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise InputError(f"{path}: no Parquet table: {' '.join(str(error).split())[:200]}") from error
    if any(row.keys() != COLUMNS.keys() for row in rows):
        raise InputError(f"{path}: these are not the columns of a sweep")
    if len({row["id"] for row in rows}) < len(rows):
        raise InputError(f"{path}: a run stands there twice")
    return rows


def need_pyarrow() -> Any:
    """The module. Raises UnsupportedError with the extra that brings it."""
    try:
        import pyarrow
    except ImportError as error:
        raise UnsupportedError("the table of a sweep needs pyarrow: pip install 'mixerlens[design]'") from error
    return pyarrow


def _missing(found: dict[str, Any], config: RunConfig) -> list[str]:
    """Fields that a run has now and the file has not. An older recipe has another number, "schema"."""
    row, key = found["row"], found["key"]
    return [*(name for name in config.key if name not in key), *(name for name in COLUMNS if name not in row)]


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def flushed(path: Path, data: bytes) -> None:
    """Write a file that is on the disk then."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """The new name of a file is on the disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
