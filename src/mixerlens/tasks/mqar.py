"""Multi-query associative recall (MQAR; Zoology, arXiv 2312.04927).

    k1 v1 k2 v2 ... kP vP | x x k2 x x x k1 x ...

All pairs stand first, every key once. Behind them each key is asked once, its value the answer at that place: at an
even distance 2 (g - 1) from the end of the pairs, g drawn without replacement with probability proportional to
g^(a - 1); a = 1 is uniform, a near 0 puts most questions soon after the pairs. Whatever is no question is a random
token, or 0. Tokens: 0, the keys 1 to vocabulary / 2 - 1, the values from there on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sampling import distinct
from .task import IGNORED, Chance, Drawn, Options, Split, Task

__all__ = ["Mqar", "MqarOptions"]


@dataclass(frozen=True, kw_only=True)
class MqarOptions(Options):
    """pairs: keys with their values. power: a. fill: "random" tokens of the whole vocabulary between the questions, or
    "zero"."""

    vocabulary: int = 8192
    length: int = 64
    pairs: int = 4
    power: float = 0.01
    fill: str = "random"
    examples: int | None = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(vocabulary=4, length=4, pairs=1)
        self.one_of(fill=("random", "zero"))
        self.fits(self.length % 2 == 0, f"length must be even, not {self.length}")
        self.fits(
            4 * self.pairs <= self.length,
            f"length {self.length} is too short for {self.pairs} pairs and a question each: "
            f"at least {4 * self.pairs} needed",
        )
        self.fits(
            self.vocabulary // 2 - 1 >= self.pairs,
            f"vocabulary {self.vocabulary} has {self.vocabulary // 2 - 1} keys: too few for {self.pairs} pairs",
        )
        power = self.power
        self.fits(
            isinstance(power, (int, float)) and 0 < power <= 1, f"power must be above 0 and at most 1, not {power!r}"
        )


class Mqar(Task[MqarOptions]):
    """Each key is asked once, its value the answer."""

    name = "mqar"

    @property
    def vocabulary(self) -> int:
        return self.options.vocabulary

    @property
    def keys(self) -> range:
        return range(1, self.vocabulary // 2)

    @property
    def values(self) -> range:
        return range(self.vocabulary // 2, self.vocabulary)

    def time(self, split: Split) -> int:
        return self.options.length

    @property
    def chance(self) -> Chance:
        count = len(self.values)
        return Chance(1 / count, f"values are drawn independently of keys: one of {count}")

    @property
    def places(self) -> np.ndarray:
        """The probability of each even distance behind the pairs, for the first question drawn."""
        g = np.arange(1, self.options.length // 2 - self.options.pairs + 1)
        p = g ** (self.options.power - 1.0)
        return p / p.sum()

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        o = self.options
        keys, values = (distinct(generator, tokens, (count,), o.pairs) for tokens in (self.keys, self.values))
        inputs = np.zeros((count, o.length), int)
        if o.fill == "random":
            inputs[:] = generator.integers(0, o.vocabulary, inputs.shape)
        inputs[:, 0 : 2 * o.pairs : 2], inputs[:, 1 : 2 * o.pairs : 2] = keys, values
        # the largest of log p + Gumbel, one after the other, are draws without replacement
        ranks = np.log(self.places) + generator.gumbel(size=(count, len(self.places)))
        at = 2 * o.pairs + 2 * np.argsort(-ranks, 1)[:, : o.pairs]
        np.put_along_axis(inputs, at, keys, 1)
        targets = np.full(inputs.shape, IGNORED)
        np.put_along_axis(targets, at, values, 1)
        return inputs, targets
