"""The text, its split, and what general-purpose compressors make of the same held-out bytes."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from architectures import BYTE_OFFSET, END

BLOCK = 16 * 1024
EVERY, FIRST = 20, 10  # blocks 10, 30, 50, ... are held out: 5 % spread over the whole book


@dataclass(frozen=True)
class Corpus:
    """A text file cut in blocks of whole lines (at least 16 KiB each), one in twenty of them held out."""

    train: list[bytes]
    held_out: list[bytes]
    sha256: str
    size: int

    def stream(self) -> np.ndarray:
        """The training blocks as one array of ids (int16), an end-of-text id before each block."""
        parts = [np.concatenate([[END], to_ids(block)]) for block in self.train]
        return np.concatenate(parts).astype(np.int16)


def to_ids(text: bytes) -> np.ndarray:
    return np.frombuffer(text, np.uint8).astype(np.int64) + BYTE_OFFSET


def read(path: Path) -> Corpus:
    """Reads and splits a text file. Raises SystemExit with one line if it is missing or too small to split."""
    if not path.is_file():
        raise SystemExit(f"no text at {path}; make one with: apt-get install bible-kjv && bible -f gen1:1-rev22:21")
    data = path.read_bytes()
    blocks: list[bytes] = []
    lines, size = [], 0
    for line in data.splitlines(keepends=True):
        lines.append(line)
        size += len(line)
        if size >= BLOCK:
            blocks.append(b"".join(lines))
            lines, size = [], 0
    if lines:
        blocks.append(b"".join(lines))
    held_out = [block for i, block in enumerate(blocks) if i % EVERY == FIRST]
    train = [block for i, block in enumerate(blocks) if i % EVERY != FIRST]
    if not held_out:
        raise SystemExit(f"{path} holds {len(data):,} bytes; at least {BLOCK * (FIRST + 1):,} are needed to split it")
    return Corpus(train, held_out, hashlib.sha256(data).hexdigest(), len(data))


def baselines(corpus: Corpus) -> dict[str, float]:
    """Bits per byte of gzip and xz on the held-out bytes alone, and of xz when it has seen the training text first."""
    held_out, train = b"".join(corpus.held_out), b"".join(corpus.train)

    def xz(data: bytes) -> int:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 << 20}]
        return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters))

    bits = 8 / len(held_out)
    return {
        "gzip -9": bits * len(gzip.compress(held_out, 9)),
        "xz -9e": bits * xz(held_out),
        "xz -9e after the training text": bits * (xz(train + held_out) - xz(train)),
    }


def excerpt(corpus: Corpus, block: int = 6, size: int = 3000) -> bytes:
    """The first whole lines of a held-out block, at most size bytes: what the demonstration reads."""
    kept = b""
    for line in corpus.held_out[block % len(corpus.held_out)].splitlines(keepends=True):
        if len(kept) + len(line) > size:
            break
        kept += line
    return kept
