"""Files of the UCR and UEA archives as text: .ts, .arff, and .txt or .tsv with the label in front. Read, never run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..errors import InputError

__all__ = ["SUFFIXES", "read", "read_pair"]

Labelled = tuple[list[Float[np.ndarray, "channels time"]], list[str]]
LARGEST = 1 << 30  # bytes of a file: the archives' own are far below it


def read(path: Path) -> Labelled:
    """Series (channels, time), float64, of unequal lengths where the file has them, and their labels.

    Raises InputError, naming file and line, for what is no such file, for missing values (? or NaN), numbers that are
    not finite, channels of unequal lengths in one series, and for files with time stamps.
    """
    reader = SUFFIXES.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: series are read from {', '.join(SUFFIXES)} files")
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}: it is no archive file")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    series, labels = [], []
    for number, channels, label in reader(path, text.splitlines()):
        series.append(_series(path, number, channels))
        if not label:
            raise InputError(f"{path}, line {number}: a series without a label")
        labels.append(label)
    if not series:
        raise InputError(f"{path} holds no series")
    counts = {len(one) for one in series}
    if len(counts) > 1:
        raise InputError(f"{path}: series with {sorted(counts)} channels in one file")
    return series, labels


def read_pair(folder: Path, name: str) -> tuple[Labelled, Labelled]:
    """NAME_TRAIN and NAME_TEST of a folder, or of its subfolder NAME, in whatever of the formats is there.

    Raises InputError where one is missing, naming what was looked for, and as `read`.
    """
    for place in (folder, folder / name):
        for suffix in SUFFIXES:
            pair = [place / f"{name}_{part}{suffix}" for part in ("TRAIN", "TEST")]
            if all(path.is_file() for path in pair):
                return read(pair[0]), read(pair[1])
    raise InputError(f"{folder} has no {name}_TRAIN and {name}_TEST ({', '.join(SUFFIXES)}), nor has {folder / name}")


Lines = Iterator[tuple[int, list[list[str]], str]]  # line number, the numbers of each channel as text, the label


def _ts(path: Path, lines: list[str]) -> Lines:
    labelled, begun = False, False
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if begun:
            *channels, label = line.split(":") if labelled else (*line.split(":"), "")
            yield number, [channel.split(",") for channel in channels], label.strip()
        elif line.lower() == "@data":
            begun = True
        elif line.startswith("@"):
            word, *rest = line.lower().split()
            if word == "@timestamps" and rest[:1] == ["true"]:
                raise InputError(f"{path}: a file with time stamps; only evenly sampled series are read")
            labelled = labelled or (word == "@classlabel" and rest[:1] == ["true"])
        else:
            raise InputError(f"{path}, line {number}: neither a comment nor @..., and before @data")
    if not begun:
        raise InputError(f"{path} has no @data line: it is no .ts file")


def _arff(path: Path, lines: list[str]) -> Lines:
    """Univariate rows `v,v,...,label`, and relational ones `'v,v\\nv,v',label` with a channel between every \\n."""
    begun = False
    for number, line in enumerate(map(str.strip, lines), 1):
        if not begun:
            begun = line.lower() == "@data"
        elif line and not line.startswith("%"):
            if line[0] in "'\"":
                body, _, label = line[1:].partition(line[0])
                yield number, [channel.split(",") for channel in body.split("\\n")], label.strip(" ,'\"")
            else:
                *values, label = line.split(",")
                yield number, [values], label.strip(" '\"")
    if not begun:
        raise InputError(f"{path} has no @data line: it is no .arff file")


def _columns(path: Path, lines: list[str]) -> Lines:
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if words:
            label = words[0]
            with contextlib.suppress(ValueError, OverflowError):
                label = str(int(float(label)))  # the archives write class 1 as 1.0000000e+00
            yield number, [words[1:]], label


SUFFIXES: dict[str, Callable[[Path, list[str]], Lines]] = {
    ".ts": _ts,
    ".arff": _arff,
    ".txt": _columns,
    ".tsv": _columns,
}


def _series(path: Path, number: int, channels: list[list[str]]) -> Float[np.ndarray, "channels time"]:
    lengths = {len(channel) for channel in channels}
    if len(lengths) != 1:
        raise InputError(f"{path}, line {number}: channels of {sorted(lengths)} steps in one series")
    if 0 in lengths:
        raise InputError(f"{path}, line {number}: a series without a number")
    found = np.empty((len(channels), lengths.pop()))
    for row, channel in zip(found, channels, strict=True):
        for t, word in enumerate(channel):
            try:
                row[t] = float(word)
            except ValueError:
                row[t] = math.nan
            if not math.isfinite(row[t]):
                shown = word.strip()[:20]
                raise InputError(f"{path}, line {number}: {shown!r} is no finite number; fill missing values first")
    return found
