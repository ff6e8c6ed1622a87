"""From the words of a command to the runs of a sweep: every mistake in them is one clear line before anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, MixerLensError
from .config import RunConfig
from .summary import GRID
from .training import REFUSED, build, state_bytes

if TYPE_CHECKING:
    from ..design.spec import MixerSpec

__all__ = ["check", "plan", "read_grid", "read_options", "read_seeds", "read_specs", "read_tasks"]

WHOLE = ("batch", "steps")
WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}


def read_specs(given: Sequence[str]) -> dict[str, tuple[MixerSpec, ...]]:
    """Models by name: of a preset, of a YAML or TOML file, or of several joined by "+", which the layers take in turns.

    Raises InputError for a name that is no preset and no file, for a file that is no specification, and for two models
    of one name.
    """
    from ..design.files import read_named

    models: dict[str, tuple[MixerSpec, ...]] = {}
    for text in given:
        words = [text] if Path(text).is_file() else text.split("+")
        if not all(words):
            raise InputError(f"{text}: a name is missing {'before' if not words[0] else 'after'} +")
        parts = [read_named(word) for word in words]
        name = "+".join(part.name for part in parts)
        if name in models:
            raise InputError(f"two models are called {name}: give one of them another name")
        models[name] = tuple(parts)
    if not models:
        raise InputError("name a specification to train: a preset or a .yaml or .toml file")
    return models


def read_seeds(text: str) -> list[int]:
    """ "0,1,2". Raises InputError for anything but different whole numbers from 0 on."""
    seeds = [_parse(word, int, f"--seeds {text}: {word!r} is no whole number") for word in text.split(",")]
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"--seeds {text}: different numbers from 0 on, for example 0,1,2")
    return seeds


def read_grid(given: Sequence[str]) -> dict[str, list[float]]:
    """["lr=1e-3,3e-3", "wd=0,0.1"] to values by name.

    Raises InputError for a name that cannot be varied or stands there twice, and for values that are missing, no
    numbers, or there twice.
    """
    grid: dict[str, list[float]] = {}
    for text in given:
        name, sign, listed = text.partition("=")
        name = name.strip()
        if not sign or name not in GRID:
            raise InputError(f"--grid {text}: write NAME=VALUE,VALUE with a name of {', '.join(GRID)}")
        if name in grid:
            raise InputError(f"--grid {text}: {name} stands there twice; put all its values into one --grid")
        words = [word.strip() for word in listed.split(",")]
        if not all(words):
            raise InputError(f"--grid {text}: a value is missing")
        kind = int if name in WHOLE else float
        said = "whole number" if kind is int else "number"
        values = [_parse(word, kind, f"--grid {text}: {word!r} is no {said}") for word in words]
        if len(set(values)) < len(values):
            raise InputError(f"--grid {text}: a value stands there twice")
        grid[name] = values
    return grid


def read_options(given: Sequence[str], tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """["length=32", "mqar.pairs=4"] to options by task; one without a task is for all of them.

    Raises InputError for a task that is not asked for, or what is no NAME=VALUE. Whether a task has the option, and
    whether the value fits, it says itself.
    """
    options: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    for text in given:
        name, sign, word = text.partition("=")
        task, dot, own = name.strip().rpartition(".")
        if not (sign and own and word.strip()):
            raise InputError(f"--task-option {text}: write NAME=VALUE or TASK.NAME=VALUE")
        if dot and task not in options:
            raise InputError(f"--task-option {text}: {task!r} is not among the tasks {', '.join(tasks)}")
        for each in [task] if dot else tasks:
            if own in options[each]:
                raise InputError(f"--task-option {text}: {own} of {each} stands there twice")
            options[each][own] = _value(word.strip())
    return options


def read_tasks(text: str, size: str, given: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Complete options by task, from "recall,parity", a preset of sizes, and options as `read_options`.

    Raises InputError for an unknown or repeated task, and for options that do not fit.
    """
    from ..tasks import make

    names = [name.strip() for name in text.split(",")]
    if len(set(names)) < len(names):
        raise InputError(f"--tasks {text}: a task stands there twice")
    for name in names:
        make(name)  # its name, before options are looked at
    options = read_options(given, names)
    return {name: asdict(make(name, size, **options[name]).options) for name in names}


def plan(
    models: Mapping[str, Sequence[MixerSpec]],
    tasks: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    grid: Mapping[str, Sequence[float]] | None = None,
    *,
    depth: int = 2,
    **recipe: Any,
) -> list[RunConfig]:
    """Every model on every task at every point of the grid, from the first seed to the last.

    depth: layers; a model's specifications take turns in them. recipe: other fields of `RunConfig`. Raises InputError
    for a number outside its range.
    """
    if depth < 1 or any(depth < len(specs) for specs in models.values()):
        most = max(len(specs) for specs in models.values())
        raise InputError(f"{depth} layers: a model here needs {most} or more")
    grid = grid or {}
    products = itertools.product(*grid.values())
    points: list[dict[str, Any]] = [dict(zip(grid, point, strict=True)) for point in products]
    return [
        RunConfig(
            name=name,
            layers=tuple(specs[layer % len(specs)] for layer in range(depth)),
            task=task,
            options=options,
            seed=seed,
            **(recipe | point),
        )
        for seed in seeds
        for task, options in tasks.items()
        for name, specs in models.items()
        for point in points
    ]


@torch.no_grad()
def check(runs: Sequence[RunConfig]) -> None:
    """Build every model for every task once, read one example and count its state, so that none fails after hours.

    Raises InputError with the model, the task and the reason.
    """
    seen = set()
    for config in runs:
        shape = replace(config, seed=0, **{name: getattr(RunConfig, name) for name in GRID})
        if shape in seen:
            continue
        seen.add(shape)
        try:
            with torch.random.fork_rng(devices=[]):
                task, model = build(shape)
                for split in ("train", "test"):  # of different lengths in some tasks
                    batch = task.batch(split, 0, 1, 0)
                    task.score(model(batch.inputs), batch.targets)
                state_bytes(model)  # counted at the end, on states that may not fit
        except (MixerLensError, *REFUSED) as error:
            raise InputError(f"{config.name} on {config.task}: {error}") from error


def _parse(word: str, kind: Callable[[str], Any], said: str) -> Any:
    try:
        return kind(word)
    except ValueError as error:
        raise InputError(said) from error


def _value(word: str) -> Any:
    """A number, true, false, none, or the word itself."""
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
