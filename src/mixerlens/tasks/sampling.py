"""Draws and layouts that several tasks share."""

from __future__ import annotations

import numpy as np

__all__ = ["distinct", "seen_before", "shifted"]


def distinct(generator: np.random.Generator, tokens: range, rows: tuple[int, ...], size: int) -> np.ndarray:
    """Rows of so many different tokens, every ordered choice alike: (*rows, size).

    Floyd's algorithm: the i-th number is drawn up to a bound that grows by one, and the bound taken in place of a
    number that is there already; then the order is shuffled.
    """
    found = np.empty((*rows, size), int)
    for i in range(size):
        bound = len(tokens) - size + i
        drawn = generator.integers(0, bound + 1, rows)
        taken = (found[..., :i] == drawn[..., None]).any(-1)
        found[..., i] = np.where(taken, bound, drawn)
    return generator.permuted(found, axis=-1) + tokens.start


def seen_before(ids: np.ndarray, counted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where an id of a row (batch, places) stood earlier in it, and the first place that it has.

    counted: places that matter, all by default; elsewhere the first answer is False and the second says nothing.
    """
    same = ids[:, :, None] == ids[:, None, :]
    if counted is not None:
        same &= counted[:, :, None] & counted[:, None, :]
    first = same.argmax(2)
    again = first < np.arange(ids.shape[1])
    return (again if counted is None else again & counted), first


def shifted(tokens: np.ndarray, answers: np.ndarray, everything: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is read, and what is asked one step ahead: every token, or the answers."""
    return tokens[:, :-1], (tokens if everything else answers)[:, 1:]
