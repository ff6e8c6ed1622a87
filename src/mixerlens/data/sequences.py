"""A classification set in three parts that never change, and how they are made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import InputError

__all__ = ["DataSet", "Sequences", "from_series"]

VALIDATION = 0.2  # of each class of the training part
FEWEST = 4  # sequences a class; with fewer in training, validation comes out of the test part


@dataclass(frozen=True)
class Sequences:
    """inputs (sequences, time, channels) float32 and labels (sequences,) int64, numbered as `DataSet.classes`."""

    inputs: Float[Tensor, "sequences time channels"] = field(repr=False)
    labels: Int[Tensor, " sequences"] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, most: int | None) -> Sequences:
        """The first so many; all of them for None."""
        return self if most is None or most >= len(self) else Sequences(self.inputs[:most], self.labels[:most])

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with any number, label or place."""
        found = hashlib.sha256(str(tuple(self.inputs.shape)).encode())
        for x in (self.inputs, self.labels):
            found.update(x.contiguous().numpy().tobytes())
        return found.hexdigest()[:16]


@dataclass(frozen=True)
class DataSet:
    """name, title, source: what it is and where from. prepared: what was done to the numbers and how they are split.

    Nothing but `test` is ever measured on, and nothing of it is ever chosen by.
    """

    name: str
    title: str
    source: str
    prepared: str
    classes: tuple[str, ...]
    train: Sequences
    validation: Sequences
    test: Sequences

    @property
    def time(self) -> int:
        return self.train.inputs.shape[1]

    @property
    def channels(self) -> int:
        return self.train.inputs.shape[2]

    def describe(self) -> dict[str, object]:
        """Sizes, and a digest of every part, so that a result says which sequences it is about."""
        parts = {name: getattr(self, name) for name in ("train", "validation", "test")}
        return {
            "title": self.title,
            "source": self.source,
            "prepared": self.prepared,
            "classes": len(self.classes),
            "time": self.time,
            "channels": self.channels,
            "sizes": {name: len(part) for name, part in parts.items()},
            "digests": {name: part.digest for name, part in parts.items()},
        }


Series = Sequence[Float[np.ndarray, "channels time"]]


def from_series(
    name: str,
    title: str,
    source: str,
    train: tuple[Series, Sequence[str]],
    test: tuple[Series, Sequence[str]],
) -> DataSet:
    """The set of an archive's two parts: series (channels, time), perhaps of unequal lengths, and their labels.

    Each channel is shifted and scaled by its mean and standard deviation over the training part; shorter series are
    then followed by zeros, which is that mean. A fifth of each training class, at random from a fixed seed, is the
    validation part; where a class has fewer than 4 training series that would leave too little, and one test series a
    class is taken instead, which is then not tested.

    Raises InputError for labels of the test part that training lacks, or channels that differ.
    """
    classes = tuple(sorted(set(train[1]), key=_numerically))
    unknown = sorted(set(test[1]) - set(classes))
    if unknown:
        raise InputError(f"{name}: the test part has labels that training lacks: {', '.join(unknown[:4])}")
    channels = {len(one) for one in (*train[0], *test[0])}
    if len(channels) != 1:
        raise InputError(f"{name}: all series need the same number of channels, found {sorted(channels)}")
    train_labels, test_labels = (np.array([classes.index(label) for label in part[1]]) for part in (train, test))
    fewest = int(np.bincount(train_labels).min())
    borrowed = fewest < FEWEST
    kept, held = _split(test_labels if borrowed else train_labels, 1 if borrowed else None)
    parts = {"train": (train, train_labels, np.arange(len(train_labels)) if borrowed else kept)}
    parts["validation"] = (test if borrowed else train, test_labels if borrowed else train_labels, held)
    parts["test"] = (test, test_labels, kept if borrowed else np.arange(len(test_labels)))
    steps = np.concatenate([train[0][i] for i in parts["train"][2].tolist()], 1)
    mean, spread = steps.mean(1, keepdims=True), steps.std(1, keepdims=True)
    spread = np.where(spread > 0, spread, 1)
    lengths = {one.shape[1] for one in (*train[0], *test[0])}
    made = {}
    for part, (given, labels, chosen) in parts.items():
        inputs = np.zeros((len(chosen), max(lengths), len(mean)), np.float32)
        for row, i in enumerate(chosen.tolist()):
            inputs[row, : given[0][i].shape[1]] = ((given[0][i] - mean) / spread).T
        made[part] = Sequences(torch.from_numpy(inputs), torch.from_numpy(labels[chosen]).to(torch.int64))
    prepared = "channels standardised by the training part"
    if len(lengths) > 1:
        prepared += f"; lengths {min(lengths)} to {max(lengths)}, zeros after the end"
    prepared += "; validation: " + (
        "one series a class out of the archive's test part" if borrowed else "a fifth of each class of training"
    )
    return DataSet(name, title, source, prepared, classes, **made)


def _split(labels: np.ndarray, each: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and held out: ``each`` of a class, or a fifth of it, at random from a fixed seed."""
    generator = np.random.default_rng(0)
    held = []
    for label in np.unique(labels):
        mine = generator.permutation(np.flatnonzero(labels == label))
        held.append(mine[: max(1, round(VALIDATION * len(mine))) if each is None else each])
    held = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), held), held


def _numerically(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label
