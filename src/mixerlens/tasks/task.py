"""What every task has in common: options that are checked, streams that never meet, a loss, a score and a chance level.

A batch is a function of (options, split, seed, index, size) and of nothing else: no batch depends on which were drawn
before it, and no two splits share a stream of random numbers.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import InputError

__all__ = ["IGNORED", "SPLITS", "Batch", "Chance", "Drawn", "Options", "Split", "Task"]

IGNORED = -100  # the target where nothing is asked
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_BLOCK = 256  # examples of a training set that are drawn at once

Drawn = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Batch:
    """inputs: (batch, time) int64 tokens, or (batch, time, channels) float32. targets: (batch, asked) or (batch,),
    int64, `IGNORED` where nothing is asked."""

    inputs: Tensor
    targets: Int[Tensor, "batch ..."]


@dataclass(frozen=True)
class Chance:
    """The share of right answers of the best guess that knows the task, the token and the place at which it is asked,
    and nothing of the sequence before it. why: where the number comes from."""

    value: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a task; a subclass adds its sizes and checks them. examples: sequences of the training set, each seen
    once an epoch in an order of its own, None for a stream without end."""

    examples: int | None = None

    def __post_init__(self) -> None:
        if self.examples is not None:
            self.whole(examples=1)

    def whole(self, **least: int) -> None:
        """Raises InputError for a field that is no whole number from its least one on."""
        for name, low in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise InputError(f"{name} must be a whole number from {low} on, not {value!r}")

    def one_of(self, **allowed: Sequence[str]) -> None:
        """Raises InputError for a field that is none of the words."""
        for name, words in allowed.items():
            if getattr(self, name) not in words:
                raise InputError(f"{name} must be one of {', '.join(words)}, not {getattr(self, name)!r}")

    def share(self, name: str) -> None:
        """Raises InputError for a field that is no number from 0 on and below 1."""
        value = getattr(self, name)
        self.fits(
            isinstance(value, (int, float)) and 0 <= value < 1, f"{name} must be from 0 on and below 1, not {value!r}"
        )

    @staticmethod
    def fits(condition: bool, message: str) -> None:
        """Raises InputError with the message unless the condition holds."""
        if not condition:
            raise InputError(message)


O = TypeVar("O", bound=Options)


class Task(ABC, Generic[O]):
    """A task with its options.

    vocabulary: tokens of the inputs and, unless `classes` says otherwise, of the answers; None for real inputs.
    channels: of real inputs, else None. classes: numbers of a model's output where it answers once a sequence; None
    where it answers at every time step. pool: what such a model does with time ("none", "last" or "mean").
    """

    name: ClassVar[str]
    pool: ClassVar[Literal["none", "last", "mean"]] = "none"
    channels: ClassVar[int | None] = None

    def __init__(self, options: O) -> None:
        self.options = options
        text = f"{self.name} {sorted(asdict(options).items())}"
        self._entropy = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        self._pools: dict[int, Drawn] = {}
        self._epochs: dict[tuple[int, ...], np.ndarray] = {}

    @property
    @abstractmethod
    def vocabulary(self) -> int | None: ...

    @property
    def classes(self) -> int | None:
        return None

    @abstractmethod
    def time(self, split: Split) -> int:
        """Time steps of this split's inputs."""

    @property
    def length(self) -> int:
        """The longest inputs of any split."""
        return max(self.time(split) for split in SPLITS)

    @property
    @abstractmethod
    def chance(self) -> Chance: ...

    @abstractmethod
    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        """So many examples: inputs and targets."""

    def examples(self, split: Split) -> int | None:
        """How many different examples a split has; None for a stream without end."""
        return self.options.examples if split == "train" else None

    def batch(self, split: Split, index: int, size: int, seed: int = 0) -> Batch:
        """The batch of this index. Of a finite split, whole epochs follow each other, each example once in each.

        Raises InputError for an unknown split or numbers that are none.
        """
        if split not in SPLITS:
            raise InputError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        if index < 0 or size < 1 or seed < 0:
            raise InputError(f"index and seed must be from 0 on and size from 1 on, not {index}, {seed} and {size}")
        total = self.examples(split)
        if total is None:
            inputs, targets = self.draw(self.stream(split, seed, index, size), size, split)
        else:
            pool, chosen = self._finite(split, seed, total), self._order(split, seed, total, index * size, size)
            inputs, targets = (part[chosen] for part in pool)
        kind = np.float32 if self.channels else np.int64
        return Batch(*(torch.from_numpy(np.ascontiguousarray(x, k)) for x, k in ((inputs, kind), (targets, np.int64))))

    def stream(self, split: Split, *numbers: int) -> np.random.Generator:
        """Random numbers that only this task, this split and these numbers have."""
        return np.random.default_rng([self._entropy, SPLITS.index(split), *numbers])

    def _finite(self, split: Split, seed: int, total: int) -> Drawn:
        """The whole training set of a seed; one at a time is kept."""
        if seed not in self._pools:
            sizes = [min(_BLOCK, total - start) for start in range(0, total, _BLOCK)]
            blocks = [self.draw(self.stream(split, seed, i, size, 1), size, split) for i, size in enumerate(sizes)]
            inputs, targets = (np.concatenate(parts).astype(np.int32) for parts in zip(*blocks, strict=True))
            self._pools = {seed: (inputs, targets)}
        return self._pools[seed]

    def _order(self, split: Split, seed: int, total: int, start: int, size: int) -> np.ndarray:
        """Which examples stand at places start to start + size of an endless row of shuffled epochs."""
        epochs = range(start // total, (start + size - 1) // total + 1)
        keys = [(SPLITS.index(split), seed, epoch, total) for epoch in epochs]
        found = {key: self._epochs.get(key) for key in keys}
        self._epochs = {
            key: self.stream(split, *key[1:], 2).permutation(total) if row is None else row
            for key, row in found.items()
        }
        return np.concatenate(list(self._epochs.values()))[start - epochs.start * total :][:size]

    def loss(self, logits: Float[Tensor, "batch ..."], targets: Int[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        """Mean cross-entropy over what is asked."""
        rows, answers = self._rows(logits, targets)
        return torch.nn.functional.cross_entropy(rows, answers, ignore_index=IGNORED)

    def score(self, logits: Float[Tensor, "batch ..."], targets: Int[Tensor, "batch ..."]) -> tuple[int, int]:
        """How many answers are right, and how many were asked."""
        rows, answers = self._rows(logits, targets)
        asked = answers != IGNORED
        return int((rows.argmax(-1) == answers)[asked].sum()), int(asked.sum())

    def _rows(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        choices = self.classes if self.classes is not None and targets.dim() == 1 else self.vocabulary
        assert choices is not None
        if logits.numel() != targets.numel() * choices:
            raise InputError(
                f"{self.name}: logits {tuple(logits.shape)} do not fit targets {tuple(targets.shape)} "
                f"with {choices} choices each"
            )
        return logits.reshape(-1, choices), targets.reshape(-1)

    def describe(self) -> dict[str, Any]:
        """Sizes and options, JSON-able."""
        return {
            "name": self.name,
            "options": asdict(self.options),
            "vocabulary": self.vocabulary,
            "channels": self.channels,
            "classes": self.classes,
            "pool": self.pool,
            "time": {split: self.time(split) for split in SPLITS},
            "examples": {split: self.examples(split) for split in SPLITS},
            "chance": self.chance.value,
            "chance_because": self.chance.why,
        }
