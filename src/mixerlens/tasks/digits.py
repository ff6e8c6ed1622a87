"""Sequential digits: scikit-learn's 8 x 8 digits, a pixel a step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .task import Chance, Drawn, Options, Split, Task

__all__ = ["SequentialDigits", "SequentialDigitsOptions"]

SIDE = 8


@dataclass(frozen=True, kw_only=True)
class SequentialDigitsOptions(Options):
    """order: "rows" of pixels as they stand, or "shuffled" by one fixed permutation. examples: the first so many of
    the 1,257 of training."""

    order: str = "rows"
    examples: int | None = 1257

    def __post_init__(self) -> None:
        super().__post_init__()
        self.one_of(order=("rows", "shuffled"))
        self.fits(self.examples is not None and self.examples <= 1257, f"examples: 1257 at most, not {self.examples}")


@cache
def _part(split: Split) -> Drawn:
    from ..data import digits

    part = digits(split)
    return part.inputs.numpy(), part.labels.numpy()


class SequentialDigits(Task[SequentialDigitsOptions]):
    """One real channel, 64 steps, asked once for the digit. The parts are those of `mixerlens.data.digits`; a seed
    decides only in which order they come. Raises UnsupportedError where scikit-learn is missing."""

    name = "digits"
    pool = "mean"
    channels = 1

    @property
    def vocabulary(self) -> None:
        return None

    @property
    def classes(self) -> int:
        return 10

    def time(self, split: Split) -> int:
        return SIDE * SIDE

    def examples(self, split: Split) -> int:
        return self.options.examples if split == "train" and self.options.examples else len(_part(split)[1])

    @property
    def chance(self) -> Chance:
        labels = _part("test")[1]
        most = int(np.bincount(labels).max())
        return Chance(most / len(labels), f"the most frequent digit of the test part: {most} of {len(labels)}")

    def _finite(self, split: Split, seed: int, total: int) -> Drawn:
        inputs, labels = (part[:total] for part in _part(split))
        if self.options.order == "shuffled":
            inputs = inputs[:, np.random.default_rng(SIDE).permutation(SIDE * SIDE)]
        return inputs, labels

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        raise NotImplementedError("the digits are a finite set: batch() takes them from it")
