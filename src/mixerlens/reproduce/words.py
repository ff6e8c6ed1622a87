"""Words that the studies' pages and pictures share, and the text of a study's numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .intervals import quantile, wilson

__all__ = ["not_run", "spread", "title", "to_text"]


def title(name: str, document: Mapping[str, Any]) -> str:
    """The title of a set before any colon, without commas, so that several can stand in one list."""
    return document["sets"].get(name, {}).get("title", name).split(":")[0].replace(",", "")


def not_run(missing: Sequence[str]) -> list[str]:
    """A line a table and variant: which seeds of which sets."""
    seeds: dict[tuple[str, str], dict[str, list[int]]] = {}
    for name in missing:
        table, data, rest = name.split("/")
        variant, _, seed = rest.rpartition("-")
        seeds.setdefault((table, variant), {}).setdefault(data, []).append(int(seed))
    lines = []
    for (table, variant), each in seeds.items():
        alike: dict[tuple[int, ...], list[str]] = {}
        for data, numbers in each.items():
            alike.setdefault(tuple(sorted(numbers)), []).append(data)
        places = (f"{', '.join(names)} (seeds {', '.join(map(str, numbers))})" for numbers, names in alike.items())
        lines.append(f"{table}, {variant}: {'; '.join(places)}")
    return lines


def spread(scores: Sequence[Sequence[int]]) -> str:
    """Mean over seeds, Student's interval where there are many, and the range; Wilson's interval of a single score."""
    if not scores:
        return ""
    each = [100 * correct / total for correct, total in scores]
    mean = sum(each) / len(each)
    if len(each) == 1:
        correct, total = scores[0]
        low, high = wilson(correct, total)
        return f"{mean:.1f} [{100 * low:.1f} to {100 * high:.1f}]"
    inner = ""
    if len(each) >= 10:
        error = math.sqrt(sum((x - mean) ** 2 for x in each) / (len(each) - 1) / len(each))
        half = quantile(len(each) - 1) * error
        inner = f" [{mean - half:.1f} to {mean + half:.1f}]"
    return f"{mean:.1f}{inner} ({min(each):.1f} to {max(each):.1f})"


def to_text(document: dict[str, Any]) -> str:
    """JSON with a line for every set or variant, so that a change can be read."""
    found = json.dumps(document, indent=1, allow_nan=False)
    return _joined(found) + "\n"


def _joined(text: str) -> str:
    """Lists and innermost objects of indented JSON on one line."""
    for opening, closing in (("\\[", "\\]"), ("\\{", "\\}")):
        pattern = f"{opening}[^\\[\\]{{}}]*{closing}"
        text = re.sub(pattern, lambda found: re.sub(r"\s+", " ", found.group()), text)
    return text
