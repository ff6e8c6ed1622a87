"""In-context recall, plain and noisy (MAD, arXiv 2403.17844): pairs of a key and its value, asked again.

    k3 v7 k1 v2 k3 [v7] k5 v2 ... k1 [v2]

A key keeps its value within a sequence and gets another one in the next. Wherever a key comes again, its value is the
answer, asked at the key; the last pair is always such a one. Tokens: keys, then values, then noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .keyed import Keyed, KeyedOptions
from .sampling import seen_before, shifted
from .task import IGNORED, Chance, Drawn, Split

__all__ = ["NoisyRecall", "NoisyRecallOptions", "Recall", "RecallOptions"]


@dataclass(frozen=True, kw_only=True)
class RecallOptions(KeyedOptions):
    """vocabulary: half keys, half values (one more of these where it is odd). length: tokens of the sequence as it is
    written; the model reads all but the last. next_token: the training split asks for every next token, as published;
    the others, and training without it, for answers alone."""

    next_token: bool = True
    examples: int | None = 12_800

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(vocabulary=4, length=4)
        self.fits(self.length % 2 == 0, f"length must be even, whole pairs of a key and a value, not {self.length}")


@dataclass(frozen=True, kw_only=True)
class NoisyRecallOptions(RecallOptions):
    """noise_vocabulary: how many of the vocabulary's tokens are noise. noise: the probability that a pair is two tokens
    of noise instead."""

    vocabulary: int = 32
    noise_vocabulary: int = 16
    noise: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(noise_vocabulary=1)
        left = self.vocabulary - self.noise_vocabulary
        self.fits(
            left >= 4, f"of vocabulary {self.vocabulary}, noise_vocabulary {self.noise_vocabulary} leaves no pair"
        )
        self.share("noise")


R = TypeVar("R", bound=RecallOptions)


class _Pairs(Keyed[R]):
    """Keys and values of one token each, some pairs replaced by noise."""

    @property
    def noise(self) -> float:
        return 0.0

    @property
    def special(self) -> int:
        return 0

    def time(self, split: Split) -> int:
        return self.options.length - 1

    @property
    def chance(self) -> Chance:
        count = len(self.values)
        return Chance(1 / count, f"values are drawn independently of keys: one of {count}")

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        pairs = self.options.length // 2
        keys = generator.integers(0, len(self.keys), (count, pairs))
        noisy = np.zeros((count, pairs), bool)
        if self.noise:
            noisy[:, :-1] = generator.random((count, pairs - 1)) < self.noise
            noisy[np.arange(count), generator.integers(0, pairs - 1, count)] = False
        # the last key is one of those before it, each with the same probability
        order = generator.random((count, len(self.keys)))
        present = np.zeros(order.shape, bool)
        rows, places = np.nonzero(~noisy[:, :-1])
        present[rows, keys[rows, places]] = True
        keys[:, -1] = np.where(present, order, -1).argmax(1)
        dictionary = generator.integers(self.values.start, self.values.stop, order.shape)
        tokens = np.stack([keys, np.take_along_axis(dictionary, keys, 1)], 2)
        again, _ = seen_before(keys, ~noisy)
        answers = np.full(tokens.shape, IGNORED)
        answers[..., 1] = np.where(again, tokens[..., 1], IGNORED)
        if self.noise:
            tokens[noisy] = generator.integers(self.values.stop, self.vocabulary, (int(noisy.sum()), 2))
        everything = split == "train" and self.options.next_token
        return shifted(tokens.reshape(count, -1), answers.reshape(count, -1), everything)


class Recall(_Pairs[RecallOptions]):
    """Multi-query in-context recall."""

    name = "recall"


class NoisyRecall(_Pairs[NoisyRecallOptions]):
    """The same with pairs of noise, of a vocabulary of their own, between the pairs; one pair at least is none."""

    name = "noisy_recall"

    @property
    def noise(self) -> float:
        return self.options.noise

    @property
    def special(self) -> int:
        return self.options.noise_vocabulary
