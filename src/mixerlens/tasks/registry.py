"""The tasks by name: what each asks, where it is from, the published sizes and small ones for two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import InputError
from . import copying, digits, fuzzy, groups, memory, mqar, recall
from .task import Options, Task

__all__ = ["PRESETS", "TASKS", "Entry", "describe", "make"]

PRESETS = ("published", "small")
MAD, ZOOLOGY = "MAD, arXiv 2403.17844", "Zoology, arXiv 2312.04927"


@dataclass(frozen=True)
class Entry:
    """A row of the registry. asks: in one sentence. kind: the task's class. published, small: its presets. causal: the
    input after a question is its answer, so only a model that sees no later token is asked anything."""

    name: str
    title: str
    asks: str
    source: str
    kind: type[Task[Any]]
    published: Options
    small: Options
    causal: bool = False

    def make(self, preset: str = "published", options: Mapping[str, Any] | None = None) -> Task[Any]:
        """The task with the preset's options, some of them changed.

        Raises InputError for a preset or an option that it has not, and for sizes that cannot be.
        """
        if preset not in PRESETS:
            raise InputError(f"preset must be one of {', '.join(PRESETS)}, not {preset!r}")
        given: Options = getattr(self, preset)
        known = [field.name for field in fields(given)]
        for name in options or {}:
            if name not in known:
                raise InputError(f"task {self.name} has no option {name!r}; choose from {', '.join(known)}")
        try:
            return self.kind(replace(given, **(options or {})))
        except InputError as error:
            raise InputError(f"task {self.name}: {error}") from error


def _entry(
    kind: type[Task[Any]],
    title: str,
    asks: str,
    source: str,
    published: Options,
    small: dict[str, Any],
    causal: bool = False,
) -> Entry:
    return Entry(kind.name, title, asks, source, kind, published, replace(published, **small), causal)


ENDLESS = {"examples": None}
TASKS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _entry(
            memory.Compression,
            "Compression",
            "all tokens of the sequence, from the state at its last token alone",
            MAD,
            memory.CompressionOptions(),
            {"length": 16, **ENDLESS},
        ),
        _entry(
            fuzzy.FuzzyRecall,
            "Fuzzy in-context recall",
            "values of several tokens, by keys of several tokens",
            MAD,
            fuzzy.FuzzyRecallOptions(),
            {"length": 64, "key_size": 2, "value_size": 2, "next_token": False, **ENDLESS},
            causal=True,
        ),
        _entry(
            recall.NoisyRecall,
            "Noisy in-context recall",
            "the value of a key seen before, with pairs of noise in between",
            MAD,
            recall.NoisyRecallOptions(),
            {"length": 64, "next_token": False, **ENDLESS},
            causal=True,
        ),
        _entry(
            recall.Recall,
            "In-context recall",
            "the value of a key seen before in the sequence",
            MAD,
            recall.RecallOptions(),
            {"length": 64, "next_token": False, **ENDLESS},
            causal=True,
        ),
        _entry(
            memory.Memorization,
            "Memorisation",
            "the value of a key in a fixed dictionary, which no sequence shows",
            MAD,
            memory.MemorizationOptions(),
            {"vocabulary": 64},
        ),
        _entry(
            copying.SelectiveCopying,
            "Selective copying",
            "the tokens among blanks, in their order",
            MAD,
            copying.SelectiveCopyingOptions(),
            {"length": 64, "copied": 8, **ENDLESS},
        ),
        _entry(
            mqar.Mqar,
            "Multi-query associative recall",
            "the value of each of the keys, once",
            ZOOLOGY,
            mqar.MqarOptions(),
            {"vocabulary": 64, "pairs": 8, **ENDLESS},
        ),
        _entry(
            groups.Parity,
            "Parity",
            "whether the ones so far are odd in number",
            "arXiv 2411.12537",
            groups.ParityOptions(length=40, test_length=256),
            {"length": 32, "test_length": 64},
        ),
        _entry(
            groups.Word,
            "Word problem of S5",
            "the running product of permutations of five things",
            "arXiv 2404.08819; lengths of 2502.10297",
            groups.WordOptions(),
            {"length": 16, "test_length": 32},
        ),
        _entry(
            copying.Copying,
            "Copying",
            "the first tokens, after a long row of blanks",
            "arXiv 1511.06464",
            copying.CopyingOptions(),
            {"length": 49, "copied": 8},
        ),
        _entry(
            copying.Delay,
            "Delay line",
            "the token of d steps before",
            "arXiv 2206.12037, with tokens",
            copying.DelayOptions(),
            {"length": 64, "delay": 16},
        ),
        _entry(
            digits.SequentialDigits,
            "Sequential digits",
            "which digit it was, pixel by pixel",
            "scikit-learn's digits (UCI)",
            digits.SequentialDigitsOptions(),
            {},
        ),
    )
}


def make(name: str, preset: str = "published", **options: Any) -> Task[Any]:
    """The task of this name. Raises InputError for an unknown name, preset or option, and for impossible sizes."""
    return _known(name).make(preset, options)


def describe(name: str) -> dict[str, Any]:
    """What a task asks, its source, and both presets with their sizes and chance levels, JSON-able."""
    entry = _known(name)
    said = {"name": name, "title": entry.title, "asks": entry.asks, "source": entry.source}
    return said | {preset: entry.make(preset).describe() for preset in PRESETS}


def _known(name: str) -> Entry:
    if name not in TASKS:
        raise InputError(f"{name!r} is no task; choose from {', '.join(TASKS)}")
    return TASKS[name]
