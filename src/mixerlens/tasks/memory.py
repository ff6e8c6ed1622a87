"""Compression and memorisation (MAD, arXiv 2403.17844): what one token can hold, and what weights can hold.

compression     x1 x2 ... xm c           from the last step alone: x1 x2 ... xm
memorisation    k5 ? k2 ? k5 ? ...       at every ?: the value that the key before it has in a fixed dictionary
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .keyed import Keyed, KeyedOptions
from .task import IGNORED, Chance, Drawn, Options, Split, Task

__all__ = ["Compression", "CompressionOptions", "Memorization", "MemorizationOptions"]


@dataclass(frozen=True, kw_only=True)
class CompressionOptions(Options):
    """vocabulary: the last token is the one that compresses. length: with that one."""

    vocabulary: int = 16
    length: int = 32
    examples: int | None = 12_800

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(vocabulary=3, length=2)


class Compression(Task[CompressionOptions]):
    """Independent tokens and the compressing one. A model answers once, from its last step, with the logits of every
    token but that one: classes = (length - 1) vocabulary, read as (length - 1, vocabulary)."""

    name = "compression"
    pool = "last"

    @property
    def vocabulary(self) -> int:
        return self.options.vocabulary

    @property
    def classes(self) -> int:
        return (self.options.length - 1) * self.vocabulary

    def time(self, split: Split) -> int:
        return self.options.length

    @property
    def chance(self) -> Chance:
        count = self.vocabulary - 1
        return Chance(1 / count, f"tokens are drawn independently of each other: one of {count}")

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        tokens = generator.integers(0, self.vocabulary - 1, (count, self.options.length - 1))
        return np.concatenate([tokens, np.full((count, 1), self.vocabulary - 1)], 1), tokens


@dataclass(frozen=True, kw_only=True)
class MemorizationOptions(KeyedOptions):
    """vocabulary: the last token asks, half of the others are keys. dictionary: the seed of the fixed dictionary."""

    vocabulary: int = 256
    length: int = 32
    dictionary: int = 0
    examples: int | None = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(vocabulary=3, length=2, dictionary=0)
        self.fits(self.length % 2 == 0, f"length must be even, a key and a question each, not {self.length}")


class Memorization(Keyed[MemorizationOptions]):
    """No sequence tells a value: the dictionary, one to one, is the same in all splits and for all data seeds."""

    name = "memorization"

    @cached_property
    def dictionary(self) -> np.ndarray:
        """The value of every key."""
        generator = np.random.default_rng([self.options.dictionary, self.vocabulary])
        return generator.permutation(self.values)[: len(self.keys)]

    def time(self, split: Split) -> int:
        return self.options.length

    @property
    def chance(self) -> Chance:
        count = len(self.keys)
        return Chance(1 / count, f"without the dictionary: {count} keys have {count} different values")

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        keys = generator.integers(0, len(self.keys), (count, self.options.length // 2))
        inputs = np.full((count, self.options.length), self.vocabulary - 1)
        inputs[:, 0::2] = keys
        targets = np.full(inputs.shape, IGNORED)
        targets[:, 1::2] = self.dictionary[keys]
        return inputs, targets
