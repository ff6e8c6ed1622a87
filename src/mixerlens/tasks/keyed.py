"""What tasks of keys and values share: how the vocabulary is divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from .task import Options, Task

__all__ = ["Keyed", "KeyedOptions"]


@dataclass(frozen=True, kw_only=True)
class KeyedOptions(Options):
    """vocabulary: of all tokens. length: of a sequence."""

    vocabulary: int = 16
    length: int = 128


K = TypeVar("K", bound=KeyedOptions)


class Keyed(Task[K]):
    """Tokens: keys, as many values (one more where that does not come out even), then ``special`` others."""

    @property
    def special(self) -> int:
        """Tokens that are neither key nor value."""
        return 1

    @property
    def vocabulary(self) -> int:
        return self.options.vocabulary

    @property
    def keys(self) -> range:
        return range((self.vocabulary - self.special) // 2)

    @property
    def values(self) -> range:
        return range(len(self.keys), self.vocabulary - self.special)
