"""Tasks that a sequence model is trained and tested on: drawn anew from a seed, with a known chance level.

`make("mqar", "small", pairs=4)` gives a task, `task.batch("train", index, size, seed)` its batches. A new task is one
file and one row of `registry.TASKS`.
"""

from .registry import PRESETS, TASKS, Entry, describe, make
from .task import IGNORED, SPLITS, Batch, Chance, Options, Task

__all__ = [
    "IGNORED",
    "PRESETS",
    "SPLITS",
    "TASKS",
    "Batch",
    "Chance",
    "Entry",
    "Options",
    "Task",
    "describe",
    "make",
]
