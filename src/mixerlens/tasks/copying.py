"""Tasks that give tokens back: copying, selective copying and a delay line.

    copying            a c b . . . . . ! . . .      asked at the last n places: a c b
    selective copying  . a . . c . b ! . . .        the same, blanks strewn in between
    delay              y_t = x_{t-d}

Tokens: those to copy, then the blank, then the sign to start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .task import IGNORED, Chance, Drawn, Options, Split, Task

__all__ = ["Copying", "CopyingOptions", "Delay", "DelayOptions", "SelectiveCopying", "SelectiveCopyingOptions"]


@dataclass(frozen=True, kw_only=True)
class CopyingOptions(Options):
    """vocabulary: two tokens are the blank and the sign. length: of everything. copied: tokens to copy."""

    vocabulary: int = 10
    length: int = 1020
    copied: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(vocabulary=4, length=3, copied=1)
        least = 2 * self.copied + 1
        self.fits(
            self.length >= least,
            f"length {self.length} is too short to copy {self.copied} tokens: at least {least} needed",
        )


@dataclass(frozen=True, kw_only=True)
class SelectiveCopyingOptions(CopyingOptions):
    """The sizes of arXiv 2403.17844."""

    vocabulary: int = 16
    length: int = 256
    copied: int = 16
    examples: int | None = 12_800


C = TypeVar("C", bound=CopyingOptions)


class _Copied(Task[C]):
    @property
    def vocabulary(self) -> int:
        return self.options.vocabulary

    @property
    def tokens(self) -> range:
        return range(self.vocabulary - 2)

    @property
    def blank(self) -> int:
        return self.vocabulary - 2

    @property
    def sign(self) -> int:
        return self.vocabulary - 1

    def time(self, split: Split) -> int:
        return self.options.length

    @property
    def chance(self) -> Chance:
        count = len(self.tokens)
        return Chance(1 / count, f"tokens are drawn independently of each other: one of {count}")

    def places(self, generator: np.random.Generator, count: int, blanks: int) -> np.ndarray:
        """Where the tokens to copy stand, (count, copied)."""
        raise NotImplementedError

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        o = self.options
        blanks = o.length - 2 * o.copied - 1
        wanted = generator.integers(0, len(self.tokens), (count, o.copied))
        inputs = np.full((count, o.length), self.blank)
        np.put_along_axis(inputs, self.places(generator, count, blanks), wanted, 1)
        inputs[:, o.copied + blanks] = self.sign
        targets = np.full(inputs.shape, IGNORED)
        targets[:, -o.copied :] = wanted
        return inputs, targets


class Copying(_Copied[CopyingOptions]):
    """The tokens stand first (the copy memory task, arXiv 1511.06464)."""

    name = "copying"

    def places(self, generator: np.random.Generator, count: int, blanks: int) -> np.ndarray:
        return np.broadcast_to(np.arange(self.options.copied), (count, self.options.copied))


class SelectiveCopying(_Copied[SelectiveCopyingOptions]):
    """Every blank goes in front of one of the tokens, each with the same probability (arXiv 2403.17844)."""

    name = "selective_copying"

    def places(self, generator: np.random.Generator, count: int, blanks: int) -> np.ndarray:
        copied = self.options.copied
        before = generator.integers(0, copied, (count, blanks))
        flat = (before + copied * np.arange(count)[:, None]).reshape(-1)
        each = np.bincount(flat, minlength=count * copied).reshape(count, copied)
        return np.arange(copied) + each.cumsum(1)


@dataclass(frozen=True, kw_only=True)
class DelayOptions(Options):
    """delay: d, steps between a token and its answer."""

    vocabulary: int = 16
    length: int = 4000
    delay: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(vocabulary=2, length=2, delay=1)
        self.fits(self.delay < self.length, f"delay {self.delay} needs a length above it, not {self.length}")


class Delay(Task[DelayOptions]):
    """Independent tokens; from the first on that has one, each step is asked for the token d steps before it.

    The delay line of arXiv 2206.12037 (length 4000, delay 1000) with tokens in place of a real signal.
    """

    name = "delay"

    @property
    def vocabulary(self) -> int:
        return self.options.vocabulary

    def time(self, split: Split) -> int:
        return self.options.length

    @property
    def chance(self) -> Chance:
        return Chance(1 / self.vocabulary, f"tokens are drawn independently of each other: one of {self.vocabulary}")

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        o = self.options
        inputs = generator.integers(0, o.vocabulary, (count, o.length))
        targets = np.full(inputs.shape, IGNORED)
        targets[:, o.delay :] = inputs[:, : -o.delay]
        return inputs, targets
