"""Fuzzy in-context recall (MAD, arXiv 2403.17844): keys and values of one to three tokens.

    pad pad k1 k4 v2 k3 v5 v1 v6 ... k1 k4 [v2]

A key is a row of different key tokens, a value a row of different value tokens; where a key ends is seen by the next
token being of a value. Keys have any size in training and the largest in validation and test. As many pairs as fit are
written; the last repeats one of those before it, and padding stands in front. Tokens: keys, values, the padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .keyed import Keyed, KeyedOptions
from .sampling import distinct, seen_before, shifted
from .task import IGNORED, Chance, Drawn, Split

__all__ = ["FuzzyRecall", "FuzzyRecallOptions"]


@dataclass(frozen=True, kw_only=True)
class FuzzyRecallOptions(KeyedOptions):
    """vocabulary: one token of padding, half of the others keys. length: tokens that the model reads. key_size,
    value_size: the most tokens of a key and of a value. next_token: as for recall."""

    key_size: int = 3
    value_size: int = 3
    next_token: bool = True
    examples: int | None = 12_800

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(vocabulary=5, length=4, key_size=1, value_size=1)
        keys = (self.vocabulary - 1) // 2
        most = max(self.key_size, self.value_size)
        self.fits(
            most <= keys,
            f"vocabulary {self.vocabulary} has {keys} tokens for keys: too few for {most} different ones",
        )
        pair = self.key_size + self.value_size
        self.fits(
            self.length + 1 >= 2 * pair,
            f"length {self.length} holds no pair of {pair} tokens twice: at least {2 * pair - 1} needed",
        )


class FuzzyRecall(Keyed[FuzzyRecallOptions]):
    """Every token of a value is an answer wherever its key comes again."""

    name = "fuzzy_recall"

    @property
    def padding(self) -> int:
        return self.vocabulary - 1

    def time(self, split: Split) -> int:
        return self.options.length

    @property
    def chance(self) -> Chance:
        v, count = self.options.value_size, len(self.values)
        first = 2 / (v + 1)  # of 1 + ... + v tokens, v are the first of their value
        rest = (1 - first) / (count - 1) if v > 1 else 0.0
        why = (
            f"the first token of a value is one of {count}, a later one is not the one before it; sizes 1 to {v} alike"
        )
        return Chance(first / count + rest, why)

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        o, train = self.options, split == "train"
        shortest = 1 if train else o.key_size
        places = (o.length + 1) // (shortest + 1)
        sizes = generator.integers(shortest, o.key_size + 1, (count, places))
        keys = _motifs(generator, self.keys, o.key_size, sizes)
        _, first = seen_before(_ids(keys, self.vocabulary))
        sizes_v = generator.integers(1, o.value_size + 1, (count, places))
        values = _motifs(generator, self.values, o.value_size, sizes_v)
        values = np.take_along_axis(values, first[..., None], 1)
        pairs = np.concatenate([keys, values], 2)
        # as many as fit beside a last pair of any size, which repeats one of them
        used = (pairs != IGNORED).sum(2).cumsum(1)
        fitting = (used <= o.length + 1 - o.key_size - o.value_size).sum(1)
        chosen = (generator.random(count) * fitting).astype(int)
        last = pairs[np.arange(count), chosen]
        pairs[np.arange(places) >= fitting[:, None]] = IGNORED
        pairs = np.concatenate([pairs, last[:, None]], 1)
        again = np.concatenate([first < np.arange(places), np.ones((count, 1), bool)], 1)
        asked = again[..., None] & (np.arange(pairs.shape[2]) >= o.key_size)
        written = pairs != IGNORED
        at = o.length + 1 - written.sum((1, 2))[:, None] + written.reshape(count, -1).cumsum(1) - 1
        rows, flat = np.nonzero(written.reshape(count, -1))
        tokens = np.full((count, o.length + 1), self.padding)
        tokens[rows, at[rows, flat]] = pairs.reshape(count, -1)[rows, flat]
        answers = np.full(tokens.shape, IGNORED)
        rows, flat = np.nonzero((written & asked).reshape(count, -1))
        answers[rows, at[rows, flat]] = pairs.reshape(count, -1)[rows, flat]
        return shifted(tokens, answers, train and o.next_token)


def _motifs(generator: np.random.Generator, tokens: range, most: int, sizes: np.ndarray) -> np.ndarray:
    """Rows of so many different tokens, (*sizes.shape, most), IGNORED behind the last."""
    every = distinct(generator, tokens, sizes.shape, most)
    return np.where(np.arange(most) < sizes[..., None], every, IGNORED)


def _ids(motifs: np.ndarray, vocabulary: int) -> np.ndarray:
    """A number for each row of tokens, different for different rows."""
    base = vocabulary + 1
    return np.where(motifs == IGNORED, vocabulary, motifs) @ base ** np.arange(motifs.shape[-1])
