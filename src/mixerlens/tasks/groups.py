"""State tracking: the running product of a group's elements (arXiv 2404.08819), and parity, that of two elements.

    y_t = x_t o y_{t-1},   y_0 = x_0

Each x_t is uniform over the tokens; y_t is asked at every step. Elements of S_n and A_n are permutations in
lexicographic order, (p o q)(i) = p(q(i)): the latest token acts last. Those of Z_n are 0 to n - 1 under addition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import TypeVar

import numpy as np

from ..errors import InputError
from .task import Chance, Drawn, Options, Split, Task

__all__ = ["Parity", "ParityOptions", "Word", "WordOptions", "elements", "products"]

MOST = 120  # elements


@dataclass(frozen=True, kw_only=True)
class ParityOptions(Options):
    """length: of training and validation. test_length: of the test split, None for the same."""

    length: int = 128
    test_length: int | None = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole(length=1)
        if self.test_length is not None:
            self.whole(test_length=1)


@dataclass(frozen=True, kw_only=True)
class WordOptions(ParityOptions):
    """group: S2 to S5, A3 to A5, or Z2 to Z120. tokens: "all" elements, or "swaps" of two (S_n only)."""

    group: str = "S5"
    tokens: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.one_of(tokens=("all", "swaps"))
        elements(self.group)
        self.fits(
            self.tokens == "all" or self.group.startswith("S"), f"only S2 to S5 have swaps for tokens, not {self.group}"
        )


@cache
def elements(group: str) -> np.ndarray:
    """The elements, a row each: permutations (order, n), or (order, 1) numbers. Raises InputError for other groups."""
    found = re.fullmatch(r"([SAZ])(\d+)", group)
    kind, n = (found[1], int(found[2])) if found else ("", 0)
    if kind == "Z" and 2 <= n <= MOST:
        return np.arange(n)[:, None]
    if (kind == "S" and 2 <= n <= 5) or (kind == "A" and 3 <= n <= 5):
        every = np.array(list(permutations(range(n))))
        return every if kind == "S" else every[_odd(every) == 0]
    raise InputError(f"group must be S2 to S5, A3 to A5 or Z2 to Z{MOST}, not {group!r}")


@cache
def products(group: str) -> np.ndarray:
    """The number of p o q at [p, q]."""
    every = elements(group)
    if group.startswith("Z"):
        return (every + every.T) % len(every)
    made = every[np.arange(len(every))[:, None, None], every[None]]
    return (made[:, :, None] == every).all(-1).argmax(-1)


def _odd(every: np.ndarray) -> np.ndarray:
    """Inversions of each permutation, modulo 2."""
    upper = np.triu(np.ones((every.shape[1],) * 2, bool), 1)
    return ((every[:, :, None] > every[:, None, :]) & upper).sum((1, 2)) % 2


P = TypeVar("P", bound=ParityOptions)


class _Products(Task[P]):
    @property
    def group(self) -> str:
        return "Z2"

    @property
    def vocabulary(self) -> int:
        return len(elements(self.group))

    @property
    def tokens(self) -> np.ndarray:
        """The elements that occur in inputs."""
        return np.arange(self.vocabulary)

    def time(self, split: Split) -> int:
        longer = self.options.test_length
        return longer if split == "test" and longer is not None else self.options.length

    @property
    def chance(self) -> Chance:
        """In the test split: knowing x_t and t, y_t is as likely as y_{t-1} is."""
        time, table, order = self.time("test"), products(self.group), self.vocabulary
        known, share, step = np.zeros(order), 1.0, np.zeros((order, order))
        known[self.tokens] = 1 / len(self.tokens)
        for x in self.tokens:
            step[table[x], np.arange(order)] += 1 / len(self.tokens)
        for _ in range(1, time):
            share += known.max()
            known = step @ known
        last = f"{1 / known.max():.4g}"
        why = f"the first product is its token; of {time}, a later one is one of {last} once the tokens have mixed"
        return Chance(share / time, why)

    def draw(self, generator: np.random.Generator, count: int, split: Split) -> Drawn:
        table = products(self.group)
        inputs = self.tokens[generator.integers(0, len(self.tokens), (count, self.time(split)))]
        targets = inputs.copy()
        for t in range(1, inputs.shape[1]):
            targets[:, t] = table[inputs[:, t], targets[:, t - 1]]
        return inputs, targets


class Parity(_Products[ParityOptions]):
    """Bits; asked at every step whether the ones so far are odd in number."""

    name = "parity"


class Word(_Products[WordOptions]):
    """The word problem of a group, S5 unless another is asked for: not solvable, so beyond any fixed depth of
    threshold circuits unless the state does the work."""

    name = "s5"

    @property
    def group(self) -> str:
        return self.options.group

    @property
    def tokens(self) -> np.ndarray:
        if self.options.tokens == "all":
            return super().tokens
        every = elements(self.group)
        return np.flatnonzero((every != np.arange(every.shape[1])).sum(1) == 2)
