"""The documentation's page of the tasks, written from the registry."""

from __future__ import annotations

from typing import Any

from ..markdown import table
from .registry import PRESETS, TASKS

__all__ = ["markdown", "rows"]

_HEAD = """# Tasks

Twelve tasks on which a token mixer shows what it can hold and do. `mixerlens tasks --markdown` writes this page,
`mixerlens tasks --json` gives the same as data. Every sequence is drawn from a seed; a batch is a function of the
options, the split, the seed, the index and the size, whatever was drawn before it:

```python
from mixerlens import tasks

task = tasks.make("mqar", "small", pairs=4)
batch = task.batch("train", index=0, size=32, seed=1)
batch.inputs  # (32, 64) tokens
batch.targets  # (32, 64) answers, -100 where nothing is asked
task.chance.value  # 0.03125
```

`task.loss(logits, targets)` and `task.score(logits, targets)` count what is asked and nothing else. Sizes are named
options (`tasks.make("recall", length=256)`); what cannot be is refused in one line. Presets: *published*, the sizes of
the source, and *small*, for two CPU cores.
"""
_CHANCE = """## Chance

The share of right answers of the best guess that knows the task, the token and the place at which it is asked, and
nothing of the sequence before it.
"""
_NOTES = """## How they differ from their sources

- Recall, fuzzy and noisy recall: *published* training asks for every next token, as the source does; *small* asks for
  the answers alone. Validation and test always ask for the answers alone. All are the source's multi-query form.
- Fuzzy recall: as many pairs as fit are written, and the pair that is asked at the end is any of them. In the source's
  sampling it is now and then not shown before.
- Compression: the model answers from its last step with a linear map for each place; the source decodes with an MLP
  from that step and a position. The compressing token itself is not asked for.
- Memorisation: the dictionary is an option of its own, so that no seed of the data changes it.
- MQAR: the smallest of the source's sizes; its others are lengths 128, 256 and 512 with 8, 16 and 64 pairs.
- Parity: one length in training, the longest of the source's.
- Delay line: tokens in place of a real signal.
- Word problems of S2 to S5, A3 to A5 and Z2 to Z120, of all elements or of swaps: the option `group` of `s5`.
"""


def rows() -> list[dict[str, Any]]:
    """One for each task and preset: what is asked, source, sizes, chance."""
    found = []
    for entry in TASKS.values():
        for preset in PRESETS:
            said = entry.make(preset).describe()
            own = {"name": entry.name, "title": entry.title, "asks": entry.asks, "source": entry.source}
            found.append(own | {"preset": preset} | said)
    return found


def markdown() -> str:
    """The page."""
    every = rows()
    asked = [
        (f"`{entry.name}`", entry.title, entry.asks, entry.source, _times(every, entry.name))
        for entry in TASKS.values()
    ]
    sizes = [
        (f"`{row['name']}`", row["preset"], _options(row), str(row["examples"]["train"] or "endless")) for row in every
    ]
    chances = [(f"`{row['name']}`", row["preset"], f"{row['chance']:.4f}", row["chance_because"]) for row in every]
    parts = [
        _HEAD,
        table(("name", "task", "asks for", "source", "steps: published, small"), asked),
        "## Sizes\n",
        table(("name", "preset", "options", "training sequences"), sizes),
        _CHANCE,
        table(("name", "preset", "chance", "because"), chances),
        _NOTES,
    ]
    return "\n".join(parts)


def _times(every: list[dict[str, Any]], name: str) -> str:
    return ", ".join(
        str(time["train"]) + (f" (test {time['test']})" if time["test"] != time["train"] else "")
        for row in every
        if row["name"] == name
        for time in [row["time"]]
    )


def _options(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(row["options"].items()) if name != "examples")
